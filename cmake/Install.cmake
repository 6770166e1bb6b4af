# cmake --install: the program, the recipes, the Slurm scripts, the libraries with their headers, and
# what find_package(lrq-dist) needs (lrq::base, lrq::pipeline, ...).
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/lrq-dist")
set(libraries options base quant transform models recipe dist io pipeline eval export report)
foreach(name IN LISTS libraries)
  set_target_properties(lrq_${name} PROPERTIES EXPORT_NAME ${name})
  install(TARGETS lrq_${name} EXPORT lrq-dist-targets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endforeach()
# Includes are written from the root of the tree, so the tree lies below one folder of ours.
target_include_directories(lrq_base PUBLIC
  "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/lrq-dist>")
install(DIRECTORY src dist io DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/lrq-dist"
        FILES_MATCHING PATTERN "*.h")
install(EXPORT lrq-dist-targets NAMESPACE lrq:: DESTINATION "${package_dir}")
set(LRQ_LINKS_NCCL OFF)
if(TARGET NCCL::NCCL)
  set(LRQ_LINKS_NCCL ON)
endif()
configure_package_config_file(cmake/lrq-dist-config.cmake.in
  "${PROJECT_BINARY_DIR}/lrq-dist-config.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/lrq-dist-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/lrq-dist-config.cmake"
              "${PROJECT_BINARY_DIR}/lrq-dist-config-version.cmake" cmake/FindLibTorch.cmake
              cmake/FindNCCL.cmake
        DESTINATION "${package_dir}")

if(TARGET lrq-dist)
  install(TARGETS lrq-dist RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()
install(DIRECTORY launch/recipes slurm DESTINATION "${CMAKE_INSTALL_DATADIR}/lrq-dist"
        USE_SOURCE_PERMISSIONS)
install(FILES LICENSE NOTICE THIRD_PARTY.md DESTINATION "${CMAKE_INSTALL_DOCDIR}")
