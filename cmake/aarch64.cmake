# A build for 64-bit ARM on an x86-64 Debian: its cross compiler, a folder of that architecture's packages
# (tools/aarch64_root.sh makes it), and QEMU's user emulation to run tests. `./dev test arm` uses it.
set(SHOAL_AARCH64_ROOT "${CMAKE_CURRENT_LIST_DIR}/../build-aarch64/root" CACHE PATH "Made by tools/aarch64_root.sh")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES SHOAL_AARCH64_ROOT)
set(sysroot ${SHOAL_AARCH64_ROOT}/sysroot)
if(NOT EXISTS ${sysroot}/usr)
  message(FATAL_ERROR "${sysroot} is not there: `./dev test arm` makes it")
endif()

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_SYSROOT ${sysroot})
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${sysroot}/usr/lib/aarch64-linux-gnu/pkgconfig:${sysroot}/usr/share/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${sysroot})

# "max" has every extension that QEMU knows; tests of older processors' code choose by themselves.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu max -L ${sysroot})

set(SHOAL_RUST_TARGET aarch64-unknown-linux-gnu)
set(SHOAL_RUST_COMPILER ${SHOAL_AARCH64_ROOT}/rust/rustc)
