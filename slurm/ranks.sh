# Read by the job scripts: site settings, and how ranks are started on the nodes of the job.
# Slurm runs a copy of a job script, so its own folder says nothing about the clone.
home=${LRQ_HOME:-$SLURM_SUBMIT_DIR}
site=${LRQ_SITE_ENV:-$home/slurm/site.env}
if [[ ! -f $site ]]; then
  printf '%s\n' "$job_script: no site settings" "  where: $site" \
    "  fix:   copy slurm/site.env.example there and edit it, or set LRQ_SITE_ENV" >&2
  exit 2
fi
# shellcheck source=slurm/site.env.example
source "$site"
program=${LRQ_PROGRAM:-$home/build/release/lrq-dist}
threads=${LRQ_THREADS:-1}

case ${LRQ_LAUNCHER:-mpirun} in
  mpirun) ranks=(mpirun -n "$SLURM_NTASKS" --map-by "slot:PE=$threads") ;;
  srun)
    ranks=(srun --mpi=pmix --ntasks "$SLURM_NTASKS" --cpus-per-task "$threads" --kill-on-bad-exit=1)
    ;;
  *)
    printf '%s\n' "$job_script: unknown launcher '$LRQ_LAUNCHER'" "  where: LRQ_LAUNCHER in $site" \
      "  fix:   use mpirun or srun" >&2
    exit 2
    ;;
esac
# Seconds that Open MPI leaves between the end of a rank, SIGTERM to the others, and SIGKILL.
export OMPI_MCA_odls_base_sigkill_timeout=${OMPI_MCA_odls_base_sigkill_timeout:-5}
echo "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST: $SLURM_NTASKS ranks, $threads threads each," \
  "restarted ${SLURM_RESTART_COUNT:-0} times"
