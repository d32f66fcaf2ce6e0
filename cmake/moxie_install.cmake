# `cmake --install`, find_package(moxie) and the Debian package.
