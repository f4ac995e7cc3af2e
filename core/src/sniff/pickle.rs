//! Pickles, by their opcodes: which names they load and which scikit-learn wrote them. Opcodes are skipped over, never run.
//!
//! The opcodes and their arguments are those of `CPython`'s `Lib/pickletools.py`, protocols 0 to 5. joblib writes the raw bytes of arrays between opcodes, which ends
//! the walk; the version is then looked for as the text it is, since every estimator of scikit-learn puts `_sklearn_version` into its own state.

use super::xgboost::ubjson_version;
use crate::version::Version;

/// Opcodes that are looked at in one file.
const MAX_OPCODES: usize = 200_000;
/// Names that are kept.
const MAX_MODULES: usize = 64;
/// Memoised texts that are kept; more only means that a later reference to one isn't understood.
const MAX_MEMO: usize = 8192;
/// Longer texts are nobody's name.
const MAX_TEXT: usize = 256;
const VERSION_KEY: &str = "_sklearn_version";

/// What a pickle says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pickle {
    /// 0 to 5.
    pub protocol: u8,
    /// Modules that are imported on loading, in their order, as far as they could be read; at most 64.
    pub modules: Vec<String>,
    /// Of the scikit-learn that wrote it.
    pub sklearn_version: Option<Version>,
    /// Of the XGBoost whose booster is in it.
    pub xgboost_version: Option<Version>,
}

impl Pickle {
    /// Whether anything of this package is loaded.
    pub fn imports(&self, package: &str) -> bool {
        self.modules.iter().any(|module| {
            module
                .strip_prefix(package)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

/// Reads a pickle; none where the bytes don't start one.
pub(super) fn sniff(head: &[u8], tail: &[u8]) -> Option<Pickle> {
    let mut walk = Walk::new(head);
    match head {
        [0x80, 2..=5, ..] => {}
        // Before protocol 2 nothing announces a pickle: take it for one only if the opcodes lead to a name.
        [b'(' | b'c' | b']' | b'}', ..] => {
            walk.run();
            if walk.pickle.modules.is_empty() {
                return None;
            }
        }
        _ => return None,
    }
    if walk.at == 0 {
        walk.run();
    }
    let mut pickle = walk.pickle;
    if pickle.sklearn_version.is_none() {
        pickle.sklearn_version = version_as_text(head).or_else(|| version_as_text(tail));
    }
    if pickle.imports("xgboost") {
        pickle.xgboost_version = ubjson_version(head).or_else(|| ubjson_version(tail));
    }
    Some(pickle)
}

/// The key as the argument of a text opcode, and the text after it.
fn version_as_text(bytes: &[u8]) -> Option<Version> {
    let key = VERSION_KEY.as_bytes();
    let openings: [&[u8]; 4] = [b"\x8c\x10", b"X\x10\0\0\0", b"U\x10", b"V"];
    let mut from = 0;
    // Each hit costs a short walk; a file full of them is no real one.
    for _ in 0..64 {
        let at = from + bytes.get(from..)?.windows(key.len()).position(|window| window == key)?;
        from = at + key.len();
        if let Some(opening) = openings.iter().find(|opening| bytes[..at].ends_with(opening)) {
            let mut walk = Walk::new(&bytes[at - opening.len()..]);
            for _ in 0..8 {
                if walk.step().is_none() || walk.pickle.sklearn_version.is_some() {
                    break;
                }
            }
            if walk.pickle.sklearn_version.is_some() {
                return walk.pickle.sklearn_version;
            }
        }
    }
    None
}

struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
    pickle: Pickle,
    /// The two texts pushed last, the later one second; none where something else was pushed since.
    texts: [Option<&'b str>; 2],
    memo: Vec<(u32, &'b str)>,
    memoised: u32,
    /// The next `BUILD` (`b`) makes joblib's wrapper of an array, whose bytes follow.
    raw_follows: bool,
}

impl<'b> Walk<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            pickle: Pickle::default(),
            texts: [None; 2],
            memo: Vec::new(),
            memoised: 0,
            raw_follows: false,
        }
    }

    fn run(&mut self) {
        for _ in 0..MAX_OPCODES {
            if self.step().is_none() {
                return;
            }
        }
    }

    /// One opcode; none at the end, where raw bytes follow, and where this isn't an opcode.
    fn step(&mut self) -> Option<()> {
        let opcode = self.take(1)?[0];
        if opcode == b'b' && self.raw_follows {
            return None;
        }
        match opcode {
            // PROTO
            0x80 => self.pickle.protocol = self.take(1)?[0],
            // FRAME
            0x95 => {
                self.take(8)?;
            }
            // Texts: SHORT_BINUNICODE, BINUNICODE, BINUNICODE8, SHORT_BINSTRING, BINSTRING, STRING, UNICODE.
            0x8c | b'U' => self.text(1)?,
            b'X' | b'T' => self.text(4)?,
            0x8d => self.text(8)?,
            b'S' => {
                let line = self.line()?;
                self.push(Some(line.trim_matches(['\'', '"'])));
            }
            b'V' => {
                let line = self.line()?;
                self.push(Some(line));
            }
            // Bytes: SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8; numbers of given length: LONG1, LONG4.
            b'C' | 0x8a => self.counted(1)?,
            b'B' | 0x8b => self.counted(4)?,
            0x8e | 0x96 => self.counted(8)?,
            // The memo: MEMOIZE, BINPUT, LONG_BINPUT, PUT; BINGET, LONG_BINGET, GET.
            0x94 => {
                self.remember(self.memoised);
                self.memoised = self.memoised.wrapping_add(1);
            }
            b'q' => {
                let index = self.take(1)?[0];
                self.remember(index.into());
            }
            b'r' => {
                let index = self.u32()?;
                self.remember(index);
            }
            b'p' => {
                let index = self.line()?.parse().ok()?;
                self.remember(index);
            }
            b'h' => {
                let index = self.take(1)?[0];
                self.recall(index.into());
            }
            b'j' => {
                let index = self.u32()?;
                self.recall(index);
            }
            b'g' => {
                let index = self.line()?.parse().ok()?;
                self.recall(index);
            }
            // GLOBAL, INST: module and name on lines.
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.import(module, name);
            }
            // STACK_GLOBAL: module and name from the stack.
            0x93 => {
                if let [Some(module), Some(name)] = self.texts {
                    self.import(module, name);
                }
                self.push(None);
            }
            // Numbers and names of given width, and lines: BININT1, BININT2, BININT, BINFLOAT, EXT1, EXT2, EXT4, FLOAT, INT, LONG, PERSID.
            b'K' | 0x82 => self.skip(1)?,
            b'M' | 0x83 => self.skip(2)?,
            b'J' | 0x84 => self.skip(4)?,
            b'G' => self.skip(8)?,
            b'F' | b'I' | b'L' | b'P' => {
                self.line()?;
                self.push(None);
            }
            // Without argument.
            b'('
            | b'0'
            | b'1'
            | b'2'
            | b'N'
            | b'R'
            | b'b'
            | b'a'
            | b'e'
            | b'd'
            | b'}'
            | b')'
            | b']'
            | b't'
            | b's'
            | b'u'
            | b'o'
            | b'l'
            | b'Q'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x92
            | 0x97
            | 0x98 => self.push(None),
            // STOP, and what is none.
            _ => return None,
        }
        Some(())
    }

    fn import(&mut self, module: &str, name: &str) {
        if module == "joblib.numpy_pickle" && name == "NumpyArrayWrapper" {
            self.raw_follows = true;
        }
        if module.len() <= MAX_TEXT
            && self.pickle.modules.len() < MAX_MODULES
            && !self.pickle.modules.iter().any(|known| known == module)
        {
            self.pickle.modules.push(module.to_owned());
        }
        self.push(None);
    }

    fn push(&mut self, text: Option<&'b str>) {
        if self.pickle.sklearn_version.is_none() && self.texts[1] == Some(VERSION_KEY) {
            self.pickle.sklearn_version = text.and_then(Version::parse);
        }
        self.texts = [self.texts[1], text];
    }

    /// Memoising leaves the stack as it is.
    fn remember(&mut self, index: u32) {
        if let Some(text) = self.texts[1]
            && self.memo.len() < MAX_MEMO
        {
            self.memo.push((index, text));
        }
    }

    fn recall(&mut self, index: u32) {
        // Indices are handed out upwards, by every pickler there is: later entries have higher ones.
        let found = self.memo.binary_search_by_key(&index, |(known, _)| *known).ok();
        self.push(found.map(|at| self.memo[at].1));
    }

    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.take(length)?;
        self.push(None);
        Some(())
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A length of `width` bytes, little endian, and as many bytes.
    fn argument(&mut self, width: usize) -> Option<&'b [u8]> {
        let length = self
            .take(width)?
            .iter()
            .rev()
            .fold(0u64, |length, byte| length << 8 | u64::from(*byte));
        self.take(usize::try_from(length).ok()?)
    }

    fn text(&mut self, width: usize) -> Option<()> {
        let bytes = self.argument(width)?;
        self.push(if bytes.len() <= MAX_TEXT {
            std::str::from_utf8(bytes).ok()
        } else {
            None
        });
        Some(())
    }

    fn counted(&mut self, width: usize) -> Option<()> {
        self.argument(width)?;
        self.push(None);
        Some(())
    }

    fn line(&mut self) -> Option<&'b str> {
        let rest = &self.bytes[self.at..];
        // No name or number is longer.
        let end = rest.iter().take(4 * MAX_TEXT).position(|byte| *byte == b'\n')?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).ok().map(str::trim_end)
    }
}
