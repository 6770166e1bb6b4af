#!/usr/bin/env python3
"""Plant each fault in a small tree and require that check_layering.py names it."""
import pathlib
import tempfile
import unittest

import check_layering


class CheckLayeringTest(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self._folder.name)
        self.write("src/base/text.h", "#pragma once\n")
        self.write("io/file_system.h", '#include "src/base/text.h"\n')
        self.write("dist/transport.h", '#include "src/base/text.h"\n')

    def tearDown(self):
        self._folder.cleanup()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def faults(self):
        return list(check_layering.faults(self.root))

    def assert_one_fault(self, part):
        found = self.faults()
        self.assertEqual(len(found), 1, found)
        self.assertIn(part, found[0])

    def test_a_clean_tree_has_no_faults(self):
        self.assertEqual(self.faults(), [])

    def test_an_arrow_upwards_is_named_with_its_line(self):
        self.write("src/pipeline/stage.h", "")
        self.write("src/quant/loss.cpp", '#include <cmath>\n#include "src/pipeline/stage.h"\n')
        self.assert_one_fault("src/quant/loss.cpp:2: src/quant must not see src/pipeline")

    def test_io_and_dist_never_see_each_other(self):
        self.write("io/a.cpp", '#include "dist/transport.h"\n')
        self.assert_one_fault("io must not see dist")

    def test_the_product_sees_no_test(self):
        self.write("tests/fakes/fake.h", "")
        self.write("src/base/a.cpp", '#include "tests/fakes/fake.h"\n')
        self.assert_one_fault("must not see tests/fakes/fake.h")

    def test_includes_are_written_from_the_root(self):
        self.write("src/base/a.cpp", '#include "text.h"\n')
        self.assert_one_fault("no file below the repository root")

    def test_c_library_headers_stay_in_sources(self):
        self.write("io/a.h", "#include <hdf5.h>\n")
        self.write("io/a.cpp", "#include <hdf5.h>\n")
        self.assert_one_fault("io/a.h:1: <hdf5.h> belongs in a .cpp file")

    def test_the_slow_torch_header_is_refused_everywhere(self):
        self.write("src/quant/a.cpp", "#include <torch/torch.h>\n")
        self.assert_one_fault("28 s")

    def test_a_plug_in_without_its_line_is_named(self):
        self.write("dist/registry.cpp", "// carrier_pigeon\n{\"mpi\", make_mpi_transport},\n")
        self.write("dist/mpi_transport.cpp", "")
        self.write("dist/carrier_pigeon_transport.cpp", "")
        self.assert_one_fault("transport 'carrier_pigeon' has no line in dist/registry.cpp")

    def test_a_family_without_its_line_is_named_and_a_helper_is_not(self):
        self.write("src/models/registry.cpp", "llama_family(),")
        self.write("src/models/llama.cpp", "FamilyEntry llama_family() {")
        self.write("src/models/opt.cpp", "FamilyEntry opt_family() {")
        self.write("src/models/model_config.cpp", "")
        self.assert_one_fault("family 'opt' has no line")

    def test_a_transform_without_its_line_is_named_though_its_header_is_included(self):
        self.write("src/transform/scale.h", "")
        self.write("src/transform/shear.h", "")
        self.write("src/transform/registry.cpp", '#include "src/transform/scale.h"\n'
                   '#include "src/transform/shear.h"\n    &scale_kind(),\n')
        self.write("src/transform/scale.cpp", "const Kind& scale_kind() {")
        self.write("src/transform/shear.cpp", "const Kind& shear_kind() {")
        self.write("src/transform/zigzag.cpp", "void help() {}")
        self.assert_one_fault("transform 'shear' has no line in src/transform/registry.cpp")

    def test_a_schedule_without_its_line_is_named_and_a_helper_is_not(self):
        self.write("src/pipeline/schedules/registry.cpp", '{"waves", plan_waves},')
        self.write("src/pipeline/schedules/waves.cpp", "Plan plan_waves(const LearnShape& shape) {")
        self.write("src/pipeline/schedules/zigzag.cpp",
                   "Plan plan_zigzag(const LearnShape& shape) {")
        self.write("src/pipeline/schedules/helper.cpp", "void help() {}")
        self.assert_one_fault("schedule 'zigzag' has no line")

    def test_an_export_format_without_its_line_is_named_and_a_helper_is_not(self):
        self.write("src/export/registry.cpp", 'Format{"hf", export_hf},')
        self.write("src/export/hf.cpp", "Report export_hf(const Job& job) {")
        self.write("src/export/gptq.cpp", "Report export_gptq(const Job& job) {")
        self.write("src/export/shard_plan.cpp", "void help() {}")
        self.assert_one_fault("export format 'gptq' has no line")

    def test_a_tensor_without_a_device_is_named(self):
        self.write("src/quant/a.cpp",
                   "at::zeros({f(2)}, x.options().dtype(at::kLong));\n"
                   "at::empty({n, 2}, at::device(at::kCPU).dtype(at::kLong)); at::ones_like(x);\n"
                   "at::full({g(1)}, 3, at::kLong);\n")
        self.assert_one_fault("src/quant/a.cpp:3: at::full says no device")

    def test_a_path_outside_the_repository_is_named(self):
        self.write("docs/a.md", "see ../" + "shared/data\n")
        self.assert_one_fault("docs/a.md:1")


if __name__ == "__main__":
    unittest.main()
