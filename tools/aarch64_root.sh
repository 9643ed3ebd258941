#!/usr/bin/env bash
# aarch64_root.sh FOLDER PACKAGE...: everything that an aarch64 build needs beyond Debian's cross compiler, in FOLDER and
# nowhere else: FOLDER/sysroot, the named -dev packages with all they depend on; FOLDER/rust, a compiler for this machine
# and the standard library of the same version for the other. Needs no root and runs nothing of the other architecture.
# Takes the package sources of this machine; prints one line when it fails.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd); shift
packages=("$@")
apt=$folder/apt
mark=$folder/.packages

wanted="${packages[*]} $(sha256sum <"$0")"
[ "$(cat "$mark" 2>/dev/null)" != "$wanted" ] || exit 0

fail() { printf '%s\n' "$*" >&2; exit 1; }

# apt_for ARCHITECTURE STATUS: apt with lists and archives of its own, as if STATUS were all that is installed.
apt_for() {
  mkdir -p "$apt/$1/lists/partial" "$apt/$1/archives/partial"
  cat >"$apt/$1/apt.conf" <<CONF
APT::Architecture "$1";
APT::Architectures { "$1"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Dir::State "$apt/$1";
Dir::State::lists "$apt/$1/lists";
Dir::State::status "$2";
Dir::Cache "$apt/$1";
Dir::Cache::archives "$apt/$1/archives";
CONF
  export APT_CONFIG=$apt/$1/apt.conf
}

fetch() { # ARCHITECTURE PACKAGE...
  local log=$apt/$1.log
  # A source that is not Debian's may lack the architecture; what counts is whether the packages come.
  apt-get update -qq >"$log" 2>&1 || true
  apt-get install -y -qq --download-only "${@:2}" >"$log" 2>&1 ||
    fail "Debian's packages for $1 could not be had: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")"
}

extract() { # ARCHITECTURE FOLDER
  local archive
  rm -rf "$2"; mkdir -p "$2"
  for archive in "$apt/$1"/archives/*.deb; do
    case $archive in # what libraries depend on in theory alone
      */perl* | */libperl* | */auto* | */m4_*) continue ;;
      *arm64.deb) [[ $archive == */libllvm* || $archive == */libz3* ]] && continue ;; # the Rust compiler's
    esac
    dpkg-deb -x "$archive" "$2" || fail "$archive could not be unpacked."
  done
}

rm -rf "$apt"; mkdir -p "$apt"
: >"$apt/nothing"
apt_for arm64 "$apt/nothing"
fetch arm64 "${packages[@]}" libstd-rust-web-dev
extract arm64 "$folder/sysroot"
# Links to /lib/... mean the sysroot's.
find "$folder/sysroot" -type l -lname '/*' -printf '%P\t%l\n' | while IFS=$'\t' read -r link target; do
  ln -sfn "$(realpath -ms --relative-to="$folder/sysroot/$(dirname "$link")" "$folder/sysroot$target")" "$folder/sysroot/$link"
done

# The compiler in the version of that library, even where this machine has one: only its own libraries are taken from here.
rust_version=$(basename "$apt"/arm64/archives/libstd-rust-web-dev_*.deb | cut -d_ -f2 | sed 's/%3a/:/')
awk 'BEGIN { RS = ""; ORS = "\n\n" } !/^Package: (rustc|cargo|rustup|libstd-rust)/' /var/lib/dpkg/status >"$apt/without_rust"
apt_for amd64 "$apt/without_rust"
fetch amd64 "rustc-web=$rust_version" "libstd-rust-web-dev=$rust_version"
extract amd64 "$folder/rust"
ln -sfn "$folder/sysroot/usr/lib/rustlib/aarch64-unknown-linux-gnu" "$folder/rust/usr/lib/rustlib/aarch64-unknown-linux-gnu"
cat >"$folder/rust/rustc" <<RUSTC
#!/bin/sh
LD_LIBRARY_PATH=$folder/rust/usr/lib/x86_64-linux-gnu exec $folder/rust/usr/bin/rustc --sysroot $folder/rust/usr "\$@"
RUSTC
chmod +x "$folder/rust/rustc"
"$folder/rust/rustc" --version >/dev/null || fail "Debian's Rust compiler does not run here."
rm -rf "$apt"
printf '%s' "$wanted" >"$mark"
