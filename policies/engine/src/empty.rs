//! A WASI 0.2 in which nothing is, for the runtimes of languages that can't begin without one.
//!
//! There is still no WASI for policies: clocks stand still, random numbers are the same ones in every instance, there are no files, no arguments and no
//! environment. What a runtime prints goes into the log at debug, within the limits of the policy's own lines. To exit is to fail. So the same request, settings
//! and answers of the world still give the same verdict, and a policy learns nothing from here but where it runs. Only the interfaces of [`INTERFACES`] exist;
//! whoever imports another one (sockets, HTTP) is refused by name.
//!
//! Signatures are those of WASI 0.2 (github.com/WebAssembly/WASI, `wasip2`); a component that has them otherwise is refused when it is loaded.

use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut, bail};

use crate::host::State;

/// What there is of WASI.
const INTERFACES: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];
/// All of 0.2 is compatible: the linker takes this definition for each of its versions.
const VERSION: &str = "0.2.0";
/// Where the monotonic clock stands, in nanoseconds. Go's runtime gives up on one that says 0 (runtime/proc.go: "nanotime returning zero").
const NOW: u64 = 1;
/// Of random bytes at a time; a runtime asks for some thousand at most.
const RANDOM_MAX: u64 = 64 << 10;
/// Said to be free in standard output; the lines themselves are bounded by the log.
const WRITE_MAX: u64 = 4 << 10;
/// The rest of a longer line is dropped.
const LINE_MAX: usize = 1 << 10;

/// What the empty world remembers of one instance.
#[derive(Debug, Default)]
pub(crate) struct Empty {
    /// How many random numbers were given.
    drawn: u64,
    /// What was printed since the last end of a line.
    line: Vec<u8>,
}

/// Resources without anything in them: a handle is all that a runtime needs.
enum InputStream {}
enum OutputStream {}
enum Pollable {}
enum IoError {}
enum Descriptor {}
enum DirectoryEntries {}
enum Terminal {}

#[derive(ComponentType, Lower, Lift)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    Failed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// Whether an import of this name is answered here.
pub(crate) fn has(import: &str) -> bool {
    import
        .split_once('@')
        .is_some_and(|(interface, version)| version.starts_with("0.2.") && INTERFACES.contains(&interface))
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    io(linker)?;
    cli(linker)?;
    clocks(linker)?;
    random(linker)?;
    filesystem(linker)
}

type Store<'a> = StoreContextMut<'a, State>;

fn interface<'a>(linker: &'a mut Linker<State>, name: &str) -> Result<LinkerInstance<'a, State>> {
    linker.instance(&format!("{name}@{VERSION}"))
}

fn resource<T: 'static>(interface: &mut LinkerInstance<'_, State>, name: &str) -> Result<()> {
    interface.resource(name, ResourceType::host::<T>(), |_, _| Ok(()))
}

fn handle<T: 'static>() -> Resource<T> {
    Resource::new_own(0)
}

fn io(linker: &mut Linker<State>) -> Result<()> {
    let mut error = interface(linker, "wasi:io/error")?;
    resource::<IoError>(&mut error, "error")?;
    error.func_wrap(
        "[method]error.to-debug-string",
        |_: Store, (_,): (Resource<IoError>,)| Ok((String::new(),)),
    )?;

    // Whatever is waited for is there: nothing ever comes.
    let mut poll = interface(linker, "wasi:io/poll")?;
    resource::<Pollable>(&mut poll, "pollable")?;
    poll.func_wrap("[method]pollable.ready", |_: Store, (_,): (Resource<Pollable>,)| {
        Ok((true,))
    })?;
    poll.func_wrap("[method]pollable.block", |_: Store, (_,): (Resource<Pollable>,)| Ok(()))?;
    poll.func_wrap("poll", |_: Store, (all,): (Vec<Resource<Pollable>>,)| {
        let ready: Vec<u32> = (0..).take(all.len()).collect();
        Ok((ready,))
    })?;

    let mut streams = interface(linker, "wasi:io/streams")?;
    resource::<InputStream>(&mut streams, "input-stream")?;
    resource::<OutputStream>(&mut streams, "output-stream")?;
    for name in ["read", "blocking-read"] {
        streams.func_wrap(
            &format!("[method]input-stream.{name}"),
            |_: Store, (_, _): (Resource<InputStream>, u64)| Ok((Err::<Vec<u8>, _>(StreamError::Closed),)),
        )?;
    }
    for name in ["skip", "blocking-skip"] {
        streams.func_wrap(
            &format!("[method]input-stream.{name}"),
            |_: Store, (_, _): (Resource<InputStream>, u64)| Ok((Err::<u64, _>(StreamError::Closed),)),
        )?;
    }
    streams.func_wrap(
        "[method]input-stream.subscribe",
        |_: Store, (_,): (Resource<InputStream>,)| Ok((handle::<Pollable>(),)),
    )?;
    streams.func_wrap(
        "[method]output-stream.subscribe",
        |_: Store, (_,): (Resource<OutputStream>,)| Ok((handle::<Pollable>(),)),
    )?;
    streams.func_wrap(
        "[method]output-stream.check-write",
        |_: Store, (_,): (Resource<OutputStream>,)| Ok((Ok::<_, StreamError>(WRITE_MAX),)),
    )?;
    for name in ["write", "blocking-write-and-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |mut store: Store, (_, bytes): (Resource<OutputStream>, Vec<u8>)| {
                print(store.data_mut(), &bytes);
                Ok((Ok::<(), StreamError>(()),))
            },
        )?;
    }
    for name in ["flush", "blocking-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |_: Store, (_,): (Resource<OutputStream>,)| Ok((Ok::<(), StreamError>(()),)),
        )?;
    }
    for name in ["write-zeroes", "blocking-write-zeroes-and-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |_: Store, (_, _): (Resource<OutputStream>, u64)| Ok((Ok::<(), StreamError>(()),)),
        )?;
    }
    for name in ["splice", "blocking-splice"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |_: Store, (_, _, _): (Resource<OutputStream>, Resource<InputStream>, u64)| {
                Ok((Err::<u64, _>(StreamError::Closed),))
            },
        )?;
    }
    Ok(())
}

fn cli(linker: &mut Linker<State>) -> Result<()> {
    let mut environment = interface(linker, "wasi:cli/environment")?;
    environment.func_wrap("get-environment", |_: Store, (): ()| {
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment.func_wrap("get-arguments", |_: Store, (): ()| Ok((Vec::<String>::new(),)))?;
    environment.func_wrap("initial-cwd", |_: Store, (): ()| Ok((None::<String>,)))?;

    let mut exit = interface(linker, "wasi:cli/exit")?;
    exit.func_wrap("exit", |mut store: Store, (_,): (Result<(), ()>,)| {
        exited(store.data_mut())
    })?;
    exit.func_wrap("exit-with-code", |mut store: Store, (_,): (u8,)| {
        exited(store.data_mut())
    })?;

    interface(linker, "wasi:cli/stdin")?.func_wrap("get-stdin", |_: Store, (): ()| Ok((handle::<InputStream>(),)))?;
    for name in ["stdout", "stderr"] {
        interface(linker, &format!("wasi:cli/{name}"))?.func_wrap(&format!("get-{name}"), |_: Store, (): ()| {
            Ok((handle::<OutputStream>(),))
        })?;
    }
    for name in ["terminal-input", "terminal-output"] {
        resource::<Terminal>(&mut interface(linker, &format!("wasi:cli/{name}"))?, name)?;
    }
    for name in ["terminal-stdin", "terminal-stdout", "terminal-stderr"] {
        interface(linker, &format!("wasi:cli/{name}"))?.func_wrap(&format!("get-{name}"), |_: Store, (): ()| {
            Ok((None::<Resource<Terminal>>,))
        })?;
    }
    Ok(())
}

/// Clocks stand still. A resolution of 0 would be divided by.
fn clocks(linker: &mut Linker<State>) -> Result<()> {
    let mut monotonic = interface(linker, "wasi:clocks/monotonic-clock")?;
    monotonic.func_wrap("now", |_: Store, (): ()| Ok((NOW,)))?;
    monotonic.func_wrap("resolution", |_: Store, (): ()| Ok((1_u64,)))?;
    for name in ["subscribe-instant", "subscribe-duration"] {
        monotonic.func_wrap(name, |_: Store, (_,): (u64,)| Ok((handle::<Pollable>(),)))?;
    }
    let mut wall = interface(linker, "wasi:clocks/wall-clock")?;
    for (name, nanoseconds) in [("now", 0), ("resolution", 1)] {
        wall.func_wrap(name, move |_: Store, (): ()| {
            Ok((Datetime {
                seconds: 0,
                nanoseconds,
            },))
        })?;
    }
    Ok(())
}

fn random(linker: &mut Linker<State>) -> Result<()> {
    for (name, prefix) in [
        ("wasi:random/random", "get-random"),
        ("wasi:random/insecure", "get-insecure-random"),
    ] {
        let mut random = interface(linker, name)?;
        random.func_wrap(&format!("{prefix}-bytes"), |mut store: Store, (length,): (u64,)| {
            if length > RANDOM_MAX {
                bail!("it asked for {length} random bytes, more than {RANDOM_MAX}");
            }
            let empty = &mut store.data_mut().empty;
            let bytes: Vec<u8> = (0..length.div_ceil(8))
                .flat_map(|_| empty.draw().to_le_bytes())
                .take(usize::try_from(length)?)
                .collect();
            Ok((bytes,))
        })?;
        random.func_wrap(&format!("{prefix}-u64"), |mut store: Store, (): ()| {
            Ok((store.data_mut().empty.draw(),))
        })?;
    }
    interface(linker, "wasi:random/insecure-seed")?.func_wrap("insecure-seed", |mut store: Store, (): ()| {
        let empty = &mut store.data_mut().empty;
        Ok(((empty.draw(), empty.draw()),))
    })
}

/// No folder is open, so nobody can have a descriptor: its methods exist to be linked.
fn filesystem(linker: &mut Linker<State>) -> Result<()> {
    let mut types = interface(linker, "wasi:filesystem/types")?;
    resource::<Descriptor>(&mut types, "descriptor")?;
    resource::<DirectoryEntries>(&mut types, "directory-entry-stream")?;
    let methods = [
        "read-via-stream",
        "write-via-stream",
        "append-via-stream",
        "advise",
        "sync-data",
        "get-flags",
        "get-type",
        "set-size",
        "set-times",
        "read",
        "write",
        "read-directory",
        "sync",
        "create-directory-at",
        "stat",
        "stat-at",
        "set-times-at",
        "link-at",
        "open-at",
        "readlink-at",
        "remove-directory-at",
        "rename-at",
        "symlink-at",
        "unlink-file-at",
        "is-same-object",
        "metadata-hash",
        "metadata-hash-at",
    ];
    for name in methods
        .map(|name| format!("[method]descriptor.{name}"))
        .iter()
        .map(String::as_str)
        .chain(["[method]directory-entry-stream.read-directory-entry"])
    {
        types.func_new(name, |_, _, _, _| bail!("it used a file, and there are none"))?;
    }
    types.func_new("filesystem-error-code", |_, _, _, results| {
        if let Some(result) = results.first_mut() {
            *result = wasmtime::component::Val::Option(None);
        }
        Ok(())
    })?;
    interface(linker, "wasi:filesystem/preopens")?.func_wrap("get-directories", |_: Store, (): ()| {
        Ok((Vec::<(Resource<Descriptor>, String)>::new(),))
    })
}

impl Empty {
    /// `SplitMix64` from 0: good enough for the seeds of hash tables, and the same everywhere.
    fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.drawn;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What a runtime prints, line by line.
fn print(state: &mut State, bytes: &[u8]) {
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let line = piece.strip_suffix(b"\n").unwrap_or(piece);
        let room = LINE_MAX.saturating_sub(state.empty.line.len());
        state.empty.line.extend_from_slice(&line[..line.len().min(room)]);
        if piece.ends_with(b"\n") {
            said(state);
        }
    }
}

/// What stands in the line goes to the log.
fn said(state: &mut State) {
    let line = std::mem::take(&mut state.empty.line);
    if !line.is_empty() {
        state.printed(&String::from_utf8_lossy(&line));
    }
}

/// A verdict is an answer, not an exit: whoever exits has failed, as Go does where it panics.
fn exited(state: &mut State) -> Result<()> {
    said(state);
    bail!("it exited instead of answering, as programs do that panic; what it printed is in the log at debug")
}

#[cfg(test)]
#[path = "empty_tests.rs"]
mod tests;
