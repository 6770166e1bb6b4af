#include "launch/program.h"

int main(int argc, char** argv) { return lrq::cli::run_program(argc, argv); }
