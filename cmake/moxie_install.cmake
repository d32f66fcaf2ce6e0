# `cmake --install`: program, libraries, headers, completion, find_package(moxie). `cpack`: a Debian package of the same.
include(CMakePackageConfigHelpers)

install(TARGETS moxie-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS moxie EXPORT moxieTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS moxie_c EXPORT moxie_cTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/moxie DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
foreach(targets moxieTargets moxie_cTargets)
  install(EXPORT ${targets} NAMESPACE moxie:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/moxie)
endforeach()
configure_package_config_file(cmake/moxieConfig.cmake.in ${PROJECT_BINARY_DIR}/moxieConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/moxie)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moxieConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/moxieConfig.cmake ${PROJECT_BINARY_DIR}/moxieConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/moxie)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
# Where apps/moxie/demo_model.cc looks for it.
install(DIRECTORY models/demo DESTINATION ${CMAKE_INSTALL_DATADIR}/moxie/models)

# The program writes its own completion scripts.
if(NOT CMAKE_CROSSCOMPILING)
  set(completions ${PROJECT_BINARY_DIR}/completions)
  add_custom_command(OUTPUT ${completions}/moxie ${completions}/_moxie ${completions}/moxie.fish DEPENDS moxie-cli
    COMMAND ${CMAKE_COMMAND} -E make_directory ${completions}
    COMMAND $<TARGET_FILE:moxie-cli> completion bash > ${completions}/moxie
    COMMAND $<TARGET_FILE:moxie-cli> completion zsh > ${completions}/_moxie
    COMMAND $<TARGET_FILE:moxie-cli> completion fish > ${completions}/moxie.fish
    COMMENT "Writing shell completions" VERBATIM)
  add_custom_target(completions ALL DEPENDS ${completions}/moxie)
  install(FILES ${completions}/moxie DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${completions}/_moxie DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
  install(FILES ${completions}/moxie.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME moxie)
set(CPACK_PACKAGE_CONTACT "The moxie authors <moxie@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY ${PROJECT_DESCRIPTION})
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)  # and the call of ldconfig
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
include(CPack)
