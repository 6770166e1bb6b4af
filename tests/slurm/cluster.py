"""A Slurm of one's own on this machine: slurmctld, two slurmd on the loopback address, munge.

Needs root and Debian's packages slurmctld, slurmd, slurm-client, munge; unittest.SkipTest otherwise.
"""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import unittest

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
TmpFS={folder}/tmp-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=30
JobRequeue=1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_1} CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_2} CPUs=2 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
NEEDED = ("slurmctld", "slurmd", "sbatch", "scontrol", "munged")
SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"
# States of a job that has left the queue; many others pass (SIGNALING, REQUEUED, ...).
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL",
         "DEADLINE")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.2)


class Cluster:
    """Two nodes, n1 and n2; every file below `folder`."""

    def __init__(self, folder):
        missing = [name for name in NEEDED if shutil.which(name, path=SBIN) is None]
        if missing or os.geteuid() != 0:
            raise unittest.SkipTest(f"a Slurm of one's own needs root and {', '.join(NEEDED)}; "
                                    f"missing: {', '.join(missing) or 'root'}")
        self.folder = pathlib.Path(folder)
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"),
                            "CUDA_VISIBLE_DEVICES": ""}  # ranks are to compute on the CPU
        for name in ("state", "tmp-n1", "tmp-n2", "spool-n1", "spool-n2"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        self.started = []
        self.own_munged = False

    def __enter__(self):
        self.start_munge()
        ports = free_ports(3)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(host=socket.gethostname(), folder=self.folder,
                                 controller_port=ports[0], port_1=ports[1], port_2=ports[2]),
            encoding="utf-8")
        self.start("slurmctld", "-D")
        for node in ("n1", "n2"):
            self.start("slurmd", "-D", "-N", node)
        until(lambda: self.nodes_idle() == 2, 30, "two idle nodes")
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        if self.own_munged:
            subprocess.run(["pkill", "-x", "munged"], check=False)

    def start(self, name, *arguments):
        with open(self.folder / f"{name}-{len(self.started)}.out", "wb") as out:
            self.started.append(subprocess.Popen(
                [shutil.which(name, path=SBIN), *arguments], env=self.environment, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True))

    def start_munge(self):
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
            return
        run_folder = pathlib.Path("/run/munge")
        run_folder.mkdir(exist_ok=True)
        shutil.chown(run_folder, "munge", "munge")
        subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True)
        self.own_munged = True
        until(lambda: subprocess.run(["munge", "-n"], capture_output=True,
                                     check=False).returncode == 0, 10, "munge answers")

    def ask(self, *command):
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: {done.stderr}{done.stdout}")
        return done.stdout

    def nodes_idle(self):
        done = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], env=self.environment,
                              capture_output=True, text=True, check=False)
        return done.stdout.split().count("idle")

    def submit(self, *arguments, **environment):
        """The job's number."""
        kept = self.environment
        self.environment = {**kept, **{name: str(value) for name, value in environment.items()}}
        try:
            return int(re.search(r"\d+", self.ask("sbatch", *map(str, arguments)))[0])
        finally:
            self.environment = kept

    def facts(self, job):
        """What scontrol says of a job, as a dict."""
        text = self.ask("scontrol", "show", "job", str(job))
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def state(self, job):
        return self.facts(job)["JobState"]

    def wait(self, job, seconds):
        """Until the job has left the queue.

        One that is queued again waits two minutes by itself, which is cut to eight seconds: sooner,
        Slurm may take the end of the shell before for that of the new one.
        """
        queued_again = None

        def over():
            nonlocal queued_again
            facts = self.facts(job)
            if facts["JobState"] == "PENDING" and facts.get("Reason") == "BeginTime":
                queued_again = queued_again or time.monotonic()
                if time.monotonic() > queued_again + 8:
                    self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
            else:
                queued_again = None
            return facts["JobState"] in ENDED
        until(over, seconds, f"the end of job {job}: {self.facts(job)}")
        return self.facts(job)
