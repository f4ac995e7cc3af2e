use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::bindings::Policy;
use crate::cache::{Cache, Counts};
use crate::empty;
use crate::host::State;
use crate::room::Room;
use crate::shipped::Shipped;
use crate::ticker::Ticker;

/// Guest code may use this much of a fiber's stack. Wasm that recurses deeper traps.
const WASM_STACK: usize = 256 << 10;
/// A fiber also carries the host's calls, down to the TLS of a store's client. Only pages that were used cost memory.
const FIBER_STACK: usize = 1 << 20;
/// Of a linear memory, kept for the next instance instead of being given back to the kernel: zeroing these costs less than faulting them in.
const KEEP_RESIDENT: usize = 128 << 10;
/// The most that a policy's `limits` may ask for (1,024 MiB) has to fit into a slot. Slots are address space, not memory.
const MEMORY_MAX: usize = 1 << 30;
/// Components made by other toolchains consist of several core modules, with several tables: those of `QuickJS` of 11. Those of `CPython` are 38, and so large that the memory of all
/// policies lets fewer of them run at once than there is room for.
const PARTS: u32 = 16;
pub(crate) const MAX_CONCURRENT: u32 = 128;
/// Components that are compiled at the same time, which takes hundreds of MiB each where another language's runtime is in them. Two, so that one of those doesn't hold
/// up all others.
const COMPILED_AT_ONCE: usize = 2;

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where compiled policies are kept for the next start. None: they are compiled at each start. The folder is made where it is missing.
    pub cache_dir: Option<PathBuf>,
    /// Space in MiB that those may take there together; which were not used for the longest time make room. Default: 256, half of what the chart gives to all
    /// that is kept.
    pub cache_mib: u32,
    /// Where compiled policies lie that came with the program (see [`compile_for`](crate::compile_for)); they are looked for there first. Trusted as the program
    /// itself is: only where nobody but its owner can write there.
    pub shipped_dir: Option<PathBuf>,
    /// Policies that run at the same time; the next one waits. Default: 128.
    pub max_concurrent: u32,
    /// Memory in MiB that those take together; the next one waits. One whose own limit is more than that runs alone. Default: 256, half of what the chart
    /// gives the server.
    pub memory_mib: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_dir: None,
            cache_mib: 256,
            shipped_dir: None,
            max_concurrent: MAX_CONCURRENT,
            memory_mib: 256,
        }
    }
}

/// No engine can be made on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine can't start: {0}; it needs an address space that is not limited (ulimit -v)")]
pub struct EngineError(String);

/// Compiles and runs policies. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Shared>);

/// What policies share.
pub(crate) struct Shared {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) shipped: Option<Shipped>,
    pub(crate) cache: Option<Cache>,
    pub(crate) room: Arc<Room>,
    pub(crate) compiling: Arc<Semaphore>,
    pub(crate) ticker: Ticker,
    /// Of the policies that have run for long; who holds it is next.
    pub(crate) turns: Arc<Mutex<()>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("cache", &self.0.cache)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// # Errors
    /// Where the machine can't give the address space for instances.
    pub fn new(options: Options) -> Result<Self, EngineError> {
        let error = |error: wasmtime::Error| EngineError(format!("{error:#}"));
        let engine = wasmtime::Engine::new(&config(options.max_concurrent)).map_err(error)?;
        let mut linker = Linker::new(&engine);
        Policy::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state).map_err(error)?;
        empty::add_to_linker(&mut linker).map_err(error)?;
        Ok(Self(Arc::new(Shared {
            ticker: Ticker::new(&engine),
            turns: Arc::default(),
            compiling: Arc::new(Semaphore::new(COMPILED_AT_ONCE)),
            shipped: options.shipped_dir.and_then(Shipped::open),
            cache: options
                .cache_dir
                .and_then(|dir| Cache::open(dir, u64::from(options.cache_mib) << 20, &engine)),
            room: Room::new(options.memory_mib, options.max_concurrent),
            engine,
            linker,
        })))
    }

    /// What was looked for among the compiled policies that are kept; nothing where none are.
    pub fn cached(&self) -> Counts {
        self.0.cache.as_ref().map(Cache::counts).unwrap_or_default()
    }
}

pub(crate) fn config(max_concurrent: u32) -> Config {
    let instances = max_concurrent.max(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_core_instances(instances * PARTS)
        .total_memories(instances * 2)
        .total_tables(instances * PARTS)
        .max_memories_per_module(1)
        .max_memory_size(MEMORY_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(4 << 10)
        // Where the kernel can tell which pages were written to, only those are made new.
        .pagemap_scan(Enabled::Auto)
        // What was used at a time of many reviews at once is given back when it is quiet.
        .max_unused_warm_slots(16);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        // One call at a time in each instance: what tells several apart is not needed.
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBER_STACK)
        .memory_init_cow(true)
        // The same request, settings and answers give the same verdict, on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // A trap's message is for an admin: no backtrace, and no tables for one in memory.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false);
    config
}
