# lrq_mpi_test(NAME x TARGET t RANKS 2 4 [ARGS …] [EXIT_CODE 4 TEXT "…" WITHIN 20]): run target t
# under mpirun, one ctest entry x_<ranks> per count.  With EXIT_CODE or TEXT the job must end that
# way, say that text and take no longer than WITHIN seconds (tests/expect_end.py).
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
find_package(MPI REQUIRED COMPONENTS C)

function(lrq_mpi_test)
  cmake_parse_arguments(arg "" "NAME;TARGET;EXIT_CODE;WITHIN" "RANKS;ARGS;TEXT" ${ARGN})
  foreach(ranks IN LISTS arg_RANKS)
    set(command "${MPIEXEC_EXECUTABLE}" "${MPIEXEC_NUMPROC_FLAG}" ${ranks} $<TARGET_FILE:${arg_TARGET}>
        ${arg_ARGS})
    if(DEFINED arg_EXIT_CODE OR arg_TEXT)
      set(expected)
      if(DEFINED arg_EXIT_CODE)
        list(APPEND expected --exit-code ${arg_EXIT_CODE})
      endif()
      foreach(text IN LISTS arg_TEXT)
        list(APPEND expected --text "${text}")
      endforeach()
      if(arg_WITHIN)
        list(APPEND expected --within ${arg_WITHIN})
      endif()
      list(PREPEND command "${Python3_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/tests/expect_end.py"
           ${expected} --)
    endif()
    add_test(NAME ${arg_NAME}_${ranks} COMMAND ${command})
    # More ranks than cores are allowed, and so is root in a container.
    set_tests_properties(${arg_NAME}_${ranks} PROPERTIES LABELS mpi TIMEOUT 300 PROCESSORS ${ranks}
      ENVIRONMENT "OMPI_MCA_rmaps_base_oversubscribe=1;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
  endforeach()
endfunction()
