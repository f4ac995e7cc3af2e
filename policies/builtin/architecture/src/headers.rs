//! What a native file is built for, from its first bytes.
//!
//! Sources: the System V gABI (`e_machine`), Apple's `mach-o/loader.h` and `mach-o/fat.h`, Microsoft's PE format. Machines are named as Go names them, and so does
//! Kubernetes in the label `kubernetes.io/arch`.

/// As much of a file as is read: in every PE file that a linker makes today the machine stands within it.
pub(crate) const HEAD: u32 = 1024;

/// What can load a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    Linux,
    MacOs,
    Windows,
}

/// What a file is built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    pub(crate) system: System,
    /// Those that Kubernetes has a name for; empty where none of them is.
    pub(crate) architectures: Vec<&'static str>,
}

/// Reads the head of a file. None where it is no native file, or less of one than it takes.
pub(crate) fn read(head: &[u8]) -> Option<Built> {
    elf(head).or_else(|| mach_o(head)).or_else(|| pe(head))
}

fn elf(head: &[u8]) -> Option<Built> {
    if head.get(..4)? != b"\x7fELF" {
        return None;
    }
    let wide = *head.get(4)? == 2;
    let little = *head.get(5)? == 1;
    let machine: [u8; 2] = head.get(18..20)?.try_into().ok()?;
    let machine = if little {
        u16::from_le_bytes(machine)
    } else {
        u16::from_be_bytes(machine)
    };
    let architecture = match (machine, wide, little) {
        (3, ..) => Some("386"),
        (40, ..) => Some("arm"),
        (62, ..) => Some("amd64"),
        (183, ..) => Some("arm64"),
        (21, _, true) => Some("ppc64le"),
        (21, _, false) => Some("ppc64"),
        (22, true, _) => Some("s390x"),
        (243, true, _) => Some("riscv64"),
        (258, true, _) => Some("loong64"),
        _ => None,
    };
    Some(Built {
        system: System::Linux,
        architectures: architecture.into_iter().collect(),
    })
}

fn mach_o(head: &[u8]) -> Option<Built> {
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let big = |at: usize| word(at).map(u32::swap_bytes);
    let types: Vec<u32> = match big(0)? {
        0xcffa_edfe | 0xcefa_edfe => vec![word(4)?],
        0xfeed_facf | 0xfeed_face => vec![big(4)?],
        // A class file of Java begins with the same bytes, and then with its version: at least 45, while no file is built for so many machines.
        magic @ (0xcafe_babe | 0xcafe_babf) => {
            let count = usize::try_from(big(4)?).ok().filter(|count| (1..20).contains(count))?;
            let size = if magic == 0xcafe_babf { 32 } else { 20 };
            (0..count).map(|index| big(8 + index * size)).collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some(Built {
        system: System::MacOs,
        architectures: types
            .into_iter()
            .filter_map(|kind| match kind {
                7 => Some("386"),
                12 => Some("arm"),
                0x0100_0007 => Some("amd64"),
                0x0100_000c => Some("arm64"),
                _ => None,
            })
            .collect(),
    })
}

fn pe(head: &[u8]) -> Option<Built> {
    if head.get(..2)? != b"MZ" {
        return None;
    }
    let at = usize::try_from(u32::from_le_bytes(head.get(0x3c..0x40)?.try_into().ok()?)).ok()?;
    let end = at.checked_add(6)?;
    let header = head.get(at..end)?;
    if &header[..4] != b"PE\0\0" {
        return None;
    }
    let architecture = match u16::from_le_bytes([header[4], header[5]]) {
        0x014c => Some("386"),
        0x01c4 => Some("arm"),
        0x8664 => Some("amd64"),
        0xaa64 => Some("arm64"),
        _ => None,
    };
    Some(Built {
        system: System::Windows,
        architectures: architecture.into_iter().collect(),
    })
}

/// Heads of files, for tests.
#[cfg(test)]
pub(crate) mod heads {
    pub(crate) fn elf(machine: u16) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(18, 0);
        head.extend(machine.to_le_bytes());
        head.resize(64, 0);
        head
    }

    pub(crate) fn mach_o(cpu: u32) -> Vec<u8> {
        let mut head = vec![0xcf, 0xfa, 0xed, 0xfe];
        head.extend(cpu.to_le_bytes());
        head
    }

    pub(crate) fn fat(cpus: &[u32]) -> Vec<u8> {
        let mut head = vec![0xca, 0xfe, 0xba, 0xbe];
        head.extend(u32::try_from(cpus.len()).unwrap().to_be_bytes());
        for cpu in cpus {
            head.extend(cpu.to_be_bytes());
            head.extend([0; 16]);
        }
        head
    }

    pub(crate) fn pe(machine: u16) -> Vec<u8> {
        let mut head = b"MZ".to_vec();
        head.resize(0x3c, 0);
        head.extend(0x80_u32.to_le_bytes());
        head.resize(0x80, 0);
        head.extend(b"PE\0\0");
        head.extend(machine.to_le_bytes());
        head
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_machine_stands_in_the_head_of_each_kind_of_file() {
        let built = |system, architectures: &[&'static str]| {
            Some(Built {
                system,
                architectures: architectures.to_vec(),
            })
        };
        for (head, expected) in [
            (heads::elf(62), built(System::Linux, &["amd64"])),
            (heads::elf(183), built(System::Linux, &["arm64"])),
            (heads::elf(243), built(System::Linux, &["riscv64"])),
            (heads::elf(9999), built(System::Linux, &[])),
            (heads::mach_o(0x0100_000c), built(System::MacOs, &["arm64"])),
            (
                heads::fat(&[0x0100_0007, 0x0100_000c]),
                built(System::MacOs, &["amd64", "arm64"]),
            ),
            (heads::pe(0x8664), built(System::Windows, &["amd64"])),
            // A class file of Java 17.
            (vec![0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 61, 0, 1], None),
            (b"#!/bin/sh\n".to_vec(), None),
            (b"MZ".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(read(&head), expected, "{head:?}");
        }
    }

    #[test]
    fn a_big_endian_file_is_read_as_one() {
        let mut head = heads::elf(0);
        head[5] = 2;
        head[18..20].copy_from_slice(&22_u16.to_be_bytes());
        assert_eq!(read(&head).unwrap().architectures, ["s390x"]);
    }

    #[test]
    fn this_very_test_is_built_for_the_machine_it_runs_on() {
        let Ok(program) = std::env::current_exe().and_then(std::fs::read) else {
            panic!("a test can read itself")
        };
        let expected = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        assert_eq!(read(&program[..HEAD as usize]).unwrap().architectures, [expected]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(start in prop_oneof![
            Just(b"\x7fELF".to_vec()), Just(b"MZ".to_vec()), Just(vec![0xca, 0xfe, 0xba, 0xbe]), Just(vec![0xcf, 0xfa, 0xed, 0xfe]), Just(vec![]),
        ], rest in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut head = start;
            head.extend(rest);
            let _ = read(&head);
        }
    }
}
