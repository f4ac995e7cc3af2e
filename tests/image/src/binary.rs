//! The program: built for Linux with musl, statically linked, the same bytes from every checkout.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use object::elf::{ET_DYN, FileHeader64, PT_INTERP};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object};

use crate::oci::Architecture;
use crate::sbom::Native;

/// The package and its program.
pub const PACKAGE: &str = "tidewaiter-webhook";

/// All that a build sees of our environment. What else there may be (flags for compilers, profiles) would change the program's bytes.
const KEPT: [&str; 14] = [
    "CARGO",
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
    "HOME",
    "RUSTUP_",
    "TERM",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
];

/// Where the compilers are, and where they may put what they make.
#[derive(Debug, Clone)]
pub struct Workshop {
    /// The packages of `zig.txt`.
    pub tools: PathBuf,
    /// Kept between builds.
    pub cache: PathBuf,
}

/// As rustc calls it.
pub fn target(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "x86_64-unknown-linux-musl",
        Architecture::Arm64 => "aarch64-unknown-linux-musl",
    }
}

impl Workshop {
    /// Builds the program, unless it is there already, and reads it.
    ///
    /// # Errors
    /// It doesn't compile; or what came out isn't what an image from scratch needs.
    pub fn build(&self, root: &Path, architecture: Architecture) -> Result<Vec<u8>> {
        let places = self.places(root)?;
        let target = target(architecture);
        let mut cargo = Command::new(self.tools.join("bin/cargo-zigbuild"));
        cargo
            .current_dir(root)
            .env_clear()
            .envs(env::vars_os().filter(|(name, _)| kept(name)))
            .env("PATH", self.path()?)
            .env("CARGO_ENCODED_RUSTFLAGS", places.rust_flags())
            .env("TARGET_CFLAGS", places.c_flags())
            // mimalloc names the day that it was compiled on. Not the commit's: what an earlier commit compiled is used again.
            .env("SOURCE_DATE_EPOCH", "0")
            .env("CARGO_TARGET_DIR", &places.target_dir)
            .env("CARGO_ZIGBUILD_ZIG_PATH", self.tools.join("ziglang/zig"))
            .env("CARGO_ZIGBUILD_CACHE_DIR", self.cache.join("zigbuild"))
            .env("ZIG_GLOBAL_CACHE_DIR", self.cache.join("zig"))
            .env("ZIG_LOCAL_CACHE_DIR", self.cache.join("zig"))
            .args([
                "rustc",
                "--release",
                "--locked",
                "--package",
                PACKAGE,
                "--bin",
                PACKAGE,
                "--target",
                target,
            ])
            // cargo-zigbuild leaves out rustc's own wish for a static program that is position independent.
            .args(["--", "-Clink-arg=-pie"]);
        let status = cargo.status().context("cargo-zigbuild can't be started")?;
        ensure!(status.success(), "{PACKAGE} doesn't build for {target}");
        let file = places.target_dir.join(target).join("release").join(PACKAGE);
        let binary = fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
        let folders = [
            &places.cargo_home,
            &places.sysroot,
            &places.root,
            &places.target_dir,
            &self.tools,
        ];
        check(&binary, architecture, &folders)
            .with_context(|| format!("{} can't be put into an image", file.display()))?;
        Ok(binary)
    }

    /// The versions of what is linked into the program beside its crates.
    ///
    /// # Errors
    /// rustc or zig doesn't say.
    pub fn native(&self, root: &Path) -> Result<Native> {
        let rustc = Command::new("rustc").current_dir(root).arg("--version").output();
        let rustc = String::from_utf8(rustc.context("rustc can't be started")?.stdout)?;
        let zig = Command::new(self.tools.join("ziglang/zig")).arg("version").output();
        let zig = String::from_utf8(zig.context("zig can't be started")?.stdout)?;
        let musl = self.tools.join("ziglang/lib/libc/musl/src/internal/version.h");
        let musl = fs::read_to_string(&musl).with_context(|| format!("can't read {}", musl.display()))?;
        Ok(Native {
            rust: rustc.split(' ').nth(1).context("rustc says no version")?.to_owned(),
            zig: zig.trim().to_owned(),
            musl: musl.split('"').nth(1).context("musl says no version")?.to_owned(),
        })
    }

    fn path(&self) -> Result<OsString> {
        let path = env::var_os("PATH").unwrap_or_default();
        let tools = [self.tools.join("bin")].into_iter();
        Ok(env::join_paths(tools.chain(env::split_paths(&path)))?)
    }

    fn places(&self, root: &Path) -> Result<Places> {
        let rustc = Command::new("rustc")
            .current_dir(root)
            .args(["--print", "sysroot"])
            .output();
        let sysroot = String::from_utf8(rustc.context("rustc can't be started")?.stdout)?;
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
        let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
        Ok(Places {
            cargo_home: cargo_home.context("neither CARGO_HOME nor HOME is set")?,
            sysroot: sysroot.trim().into(),
            root: root.to_owned(),
            target_dir: self.cache.join("target"),
        })
    }
}

fn kept(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    KEPT.iter().any(|kept| {
        if kept.ends_with('_') {
            name.starts_with(kept)
        } else {
            name == *kept
        }
    })
}

/// The folders of this machine that compilers see.
struct Places {
    cargo_home: PathBuf,
    sysroot: PathBuf,
    root: PathBuf,
    target_dir: PathBuf,
}

impl Places {
    /// A panic's message names its source file. Of two that match the later counts: the target folder may be inside of the checkout.
    fn rust_flags(&self) -> String {
        let places = [
            (&self.cargo_home, "/cargo"),
            (&self.sysroot, "/rust"),
            (&self.root, "/tidewaiter"),
            (&self.target_dir, "/target"),
        ];
        let flag = |(folder, name): (&PathBuf, &str)| format!("--remap-path-prefix={}={name}", folder.display());
        places.map(flag).join("\u{1f}")
    }

    /// `__FILE__` does so in C.
    fn c_flags(&self) -> String {
        let places = [
            (&self.cargo_home, "/cargo"),
            (&self.root, "/tidewaiter"),
            (&self.target_dir, "/target"),
        ];
        let flag = |(folder, name): (&PathBuf, &str)| format!("-ffile-prefix-map={}={name}", folder.display());
        places.map(flag).join(" ")
    }
}

/// Whether a program runs in an image that holds nothing else, and says nothing of the machine that made it.
///
/// # Errors
/// The first reason why not.
pub fn check(binary: &[u8], architecture: Architecture, folders: &[&PathBuf]) -> Result<()> {
    let elf = ElfFile64::<Endianness>::parse(binary).context("not a 64-bit ELF file")?;
    let wanted = match architecture {
        Architecture::Amd64 => object::Architecture::X86_64,
        Architecture::Arm64 => object::Architecture::Aarch64,
    };
    ensure!(
        elf.architecture() == wanted,
        "built for {:?}, not for {}",
        elf.architecture(),
        architecture.name()
    );
    let header: &FileHeader64<Endianness> = elf.elf_header();
    let endian = elf.endian();
    let segments = header.program_headers(endian, binary)?;
    if segments.iter().any(|segment| segment.p_type(endian) == PT_INTERP) {
        bail!("it needs a dynamic linker");
    }
    ensure!(
        header.e_type(endian) == ET_DYN,
        "it isn't position independent: its code would stand at the same address in every process"
    );
    for folder in folders {
        let name = folder.as_os_str().as_encoded_bytes();
        if let Some(at) = memmem::find(binary, name) {
            let around = &binary[at..binary.len().min(at + name.len() + 60)];
            bail!("it names a folder of this machine: {}", String::from_utf8_lossy(around));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use object::elf::{EM_AARCH64, EM_X86_64, ET_EXEC, PT_LOAD};

    use super::*;

    /// The headers of a program with one segment, and a text behind them.
    fn elf(machine: u16, kind: u16, segment: u32, text: &str) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend(kind.to_le_bytes());
        elf.extend(machine.to_le_bytes());
        elf.extend(1_u32.to_le_bytes());
        elf.extend(0_u64.to_le_bytes()); // entry
        elf.extend(64_u64.to_le_bytes()); // program headers begin here
        elf.extend(0_u64.to_le_bytes()); // no section headers
        elf.extend(0_u32.to_le_bytes());
        for number in [64, 56, 1, 64, 0, 0_u16] {
            elf.extend(number.to_le_bytes());
        }
        elf.extend(segment.to_le_bytes());
        elf.resize(64 + 56, 0);
        elf.extend(text.as_bytes());
        elf
    }

    fn refusal(binary: &[u8]) -> Option<String> {
        let folder = PathBuf::from("/home/me/tidewaiter");
        check(binary, Architecture::Arm64, &[&folder])
            .err()
            .map(|error| format!("{error:#}"))
    }

    #[test]
    fn what_an_empty_image_can_run_passes() {
        let binary = elf(
            EM_AARCH64,
            ET_DYN,
            PT_LOAD,
            "panicked at /tidewaiter/webhook/src/main.rs",
        );
        assert_eq!(refusal(&binary), None);
    }

    #[test]
    fn what_it_can_t_run_or_what_names_this_machine_is_refused() {
        for (binary, because) in [
            (elf(EM_X86_64, ET_DYN, PT_LOAD, ""), "built for X86_64, not for arm64"),
            (elf(EM_AARCH64, ET_DYN, PT_INTERP, ""), "dynamic linker"),
            (elf(EM_AARCH64, ET_EXEC, PT_LOAD, ""), "position independent"),
            (
                elf(
                    EM_AARCH64,
                    ET_DYN,
                    PT_LOAD,
                    "at /home/me/tidewaiter/webhook/src/main.rs",
                ),
                "/home/me/tidewaiter/webhook",
            ),
            (b"#!/bin/sh".to_vec(), "not a 64-bit ELF file"),
        ] {
            let refusal = refusal(&binary).unwrap_or_default();
            assert!(refusal.contains(because), "{because}: {refusal}");
        }
    }

    #[test]
    fn what_would_change_the_program_is_kept_from_its_build() {
        let seen = |name: &str| kept(&name.into());
        assert!(
            seen("HOME")
                && seen("CARGO_HOME")
                && seen("CARGO_REGISTRIES_CRATES_IO_PROTOCOL")
                && seen("RUSTUP_TOOLCHAIN")
        );
        assert!(
            !seen("RUSTFLAGS")
                && !seen("CARGO_PROFILE_RELEASE_LTO")
                && !seen("CFLAGS")
                && !seen("CC")
                && !seen("CARGO_BUILD_TARGET")
        );
    }
}
