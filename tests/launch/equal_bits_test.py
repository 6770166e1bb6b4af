"""The block files are equal byte for byte on any number of ranks."""
import program


class EqualBitsTest(program.ProgramTest):
    def assert_equal_on_all_ranks(self, *options, ranks=(2, 3, 4)):
        self.succeed(self.calibrate("plain", *options))
        expected = program.blocks(self.folder / "plain")
        self.assertEqual(len(expected), 5)
        for count in ranks:
            # How often a cut is made must not change a bit either.
            self.succeed(self.calibrate(f"on-{count}", *options, "--cut-every", count), count)
            self.assert_same_blocks(expected, f"on-{count}", f"{count} ranks, {options}")
        return expected

    def learned(self, *options):
        return ("--wbits", "4", "--abits", "6", "--epochs", "2", *options)

    def test_one_block_at_a_time(self):
        self.assert_equal_on_all_ranks(*self.learned("--wave", "1", "--emit", "pre"),
                                       ranks=(1, 2, 3, 4))

    def test_waves_of_two_in_batches_of_two_emitting_before_the_step(self):
        self.assert_equal_on_all_ranks(
            *self.learned("--wave", "2", "--emit", "pre", "--batch-size", "2"))

    def test_waves_of_two_emitting_after_the_step(self):
        self.assert_equal_on_all_ranks(*self.learned("--wave", "2", "--emit", "post"), ranks=(3,))

    def test_all_blocks_at_once_emitting_before_the_step(self):
        self.assert_equal_on_all_ranks(*self.learned("--wave", "5", "--emit", "pre"), ranks=(4,))

    def test_all_blocks_at_once_in_batches_of_two_emitting_after_the_step(self):
        self.assert_equal_on_all_ranks(
            *self.learned("--wave", "5", "--emit", "post", "--batch-size", "2"), ranks=(2, 3))

    def test_replicas_that_share_the_micro_batch(self):
        for number, (options, counts) in enumerate((
                (("--wave", "1", "--emit", "post"), ((1, 3), (2, 2), (4, 4))),
                (("--wave", "2", "--emit", "pre"), ((1, 2), (2, 4), (2, 3), (4, 4), (2, 5))),
                (("--set", "train.schedule=independent"), ((2, 2), (2, 4))),
                (("--wave", "2", "--recipe", "lrquant-plus", "--set", "loss.balance=ema",
                  "--set", "train.keep_best=true"), ((2, 4), (4, 4))))):
            asked = self.learned("--batch-size", "4", *options)
            self.succeed(self.calibrate(f"one-{number}", *asked, samples=8))
            expected = program.blocks(self.folder / f"one-{number}")
            for replicas, ranks in counts:
                name = f"replicas-{number}-{replicas}-{ranks}"
                end = self.succeed(self.calibrate(name, *asked, "--replicas", replicas,
                                                  "--cut-every", 1, samples=8, log="info"), ranks)
                self.assertIn(f"replicas={replicas} ", end.output)
                self.assert_same_blocks(expected, name, f"{options}")

    def test_replicas_come_by_themselves_where_ranks_are_left(self):
        options = self.learned("--batch-size", "4", "--wave", "2")
        for ranks, found in ((3, "stages=2 replicas=1 "), (4, "stages=2 replicas=2 ")):
            end = self.succeed(self.calibrate(f"on-{ranks}", *options, log="info"), ranks)
            self.assertIn(found, end.output)

    def test_replicas_that_cannot_be(self):
        for options, ranks, text in (
                (("--batch-size", "4", "--replicas", "3"), 3, "power of two that divides"),
                (("--batch-size", "2", "--replicas", "4"), 4, "power of two that divides"),
                (("--batch-size", "4", "--replicas", "4"), 2,
                 "4 replicas of a stage do not fit on 2 ranks")):
            end = program.run(self.calibrate("run", "--wbits", "4", *options), ranks)
            self.assert_refused(end, 2, text)

    def test_blocks_that_learn_independently(self):
        self.assert_equal_on_all_ranks(*self.learned("--set", "train.schedule=independent"),
                                       ranks=(3,))

    def test_bfloat16(self):
        self.assert_equal_on_all_ranks(*self.learned("--wave", "2", "--dtype", "bfloat16"),
                                       ranks=(2,))

    def test_every_term_and_learnable_in_batches_of_three(self):
        self.assert_equal_on_all_ranks(*self.learned(
            "--recipe", "lrquant-plus", "--wave", "2", "--batch-size", "3",
            "--set", "loss.balance=ema", "--set", "loss.mse_scale=token_energy",
            "--set", "loss.massive_tokens=drop", "--set", "rotation_vectors.form=outer",
            "--set", "rotation_vectors.rank=2"), ranks=(4,))

    def test_the_best_of_a_wave(self):
        kept = self.assert_equal_on_all_ranks(
            *self.learned("--wave", "2", "--set", "train.keep_best=true"), ranks=(3,))
        for block in kept.values():
            self.assertRegex(block.decode("utf-8", "replace"), r'"kept":"(start|epoch \d)"')

    def test_rotations_and_learned_reflections_in_waves_of_two(self):
        made = self.assert_equal_on_all_ranks(
            "--recipe", "ruquant-lh-w4a4", "--epochs", "1", "--wave", "2",
            "--set", "rotation.steps=4", "--set", "activations.clip=learned", ranks=(2, 3))
        for block in made.values():
            for tensor in (b"map.qkv_in.00.rotation", b"map.down_in.03.householder",
                           b"mlp_in.act_quantizer.upbound_factor"):
                self.assertIn(tensor, block)

    def test_maps_from_tokens_and_gptq(self):
        made = self.assert_equal_on_all_ranks(
            "--recipe", "duquant-w4a4", "--wave", "1", "--set", "rotation.steps=8",
            "--set", "rotation.calib=tokens", "--set", "weights.rounding=gptq", ranks=(1, 3))
        for block in made.values():
            self.assertIn(b"mlp.down_proj.codes", block)

    def test_clusters_and_what_a_resume_makes_of_them(self):
        options = ("--recipe", "rptq-w4a4", "--set", "clusters.norms=8")
        made = self.assert_equal_on_all_ranks(*options, ranks=(1, 3))
        for block in made.values():
            for tensor in (b"map.qkv_in.00.permutation", b"map.query.00.permutation",
                           b"map.value.00.permutation", b"cluster.out_in.layout",
                           b"cluster.key.low", b"mlp.down_proj.codes"):
                self.assertIn(tensor, block)
        # The first blocks alone are those of the whole run, byte for byte.
        self.succeed(self.calibrate("first", *options, "--hidden-layer-num", 2))
        first = program.blocks(self.folder / "first")
        self.assertEqual(first, {name: made[name] for name in sorted(made)[:2]})
        # A block file that is lost is made again.
        for block in list(sorted(made))[3:]:
            (self.folder / "plain" / "blocks" / block).unlink()
        self.succeed(self.calibrate("plain", *options, "--resume"), 2)
        self.assert_same_blocks(made, "plain", "after a resume")

    def test_clusters_of_independent_blocks(self):
        self.assert_equal_on_all_ranks("--recipe", "rptq-w4a8", "--wave", "5",
                                       "--set", "train.schedule=independent", ranks=(3,))

    def test_round_to_nearest(self):
        self.assert_equal_on_all_ranks("--recipe", "rtn", "--wbits", "4", ranks=(2,))

    def test_settings_that_should_matter_do(self):
        # Otherwise equal bytes would prove little.
        made = []
        for number, options in enumerate([("--wave", "1"), ("--wave", "5"),
                                          ("--wave", "5", "--emit", "post"),
                                          ("--wave", "5", "--batch-size", "2"),
                                          ("--wave", "5", "--seed", "3")]):
            self.succeed(self.calibrate(f"run-{number}", *self.learned(*options)))
            made.append(tuple(content.split(b"}}", 1)[1] for content in
                              program.blocks(self.folder / f"run-{number}").values()))
        self.assertEqual(len(set(made[:4])), 4)
        self.assertEqual(made[1], made[4], "rows of a 2-D token file are not drawn by the seed")

    def test_more_ranks_than_blocks_are_refused(self):
        end = program.run(self.calibrate("run", *self.learned()), 6)
        self.assert_refused(end, 2, "6 ranks, and the model has 5 blocks", "at most 5 ranks")
        self.assertEqual(program.blocks(self.folder / "run"), {})


if __name__ == "__main__":
    program.main()
