#include "launch/program.h"
#include "src/base/process.h"

int main(int argc, char** argv) {
  lrq::keep_freed_memory();
  return lrq::cli::run_program(argc, argv);
}
