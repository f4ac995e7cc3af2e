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
                "zigbuild",
                "--release",
                "--locked",
                "--package",
                PACKAGE,
                "--target",
                target,
            ]);
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
