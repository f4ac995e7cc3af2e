//! The allocator of a policy's component.
//!
//! An instance answers one request and is gone. So memory is taken from one end and hardly ever given back: only what was allocated last can be freed, or grow
//! where it is. What is asked for lies in the memory that the component begins with (`--initial-memory`), as long as that is enough: growing it costs the host a
//! system call at each request, and keeping free lists in order costs more than the little that would be reused.
#![allow(
    unsafe_code,
    reason = "a global allocator is unsafe to write; each part says why it is sound"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr;

const PAGE: usize = 64 * 1024;

#[global_allocator]
static MEMORY: OneWay = OneWay {
    next: Cell::new(0),
    end: Cell::new(0),
};

struct OneWay {
    /// The first address that is free. 0 before the first call.
    next: Cell<usize>,
    /// The first address beyond the memory.
    end: Cell<usize>,
}

// SAFETY: a component of this contract has one thread.
unsafe impl Sync for OneWay {}

unsafe extern "C" {
    /// Where the linker's data and stack end. Its address is what counts.
    static __heap_base: u8;
}

impl OneWay {
    /// Takes `size` bytes at an address that `align` divides.
    fn take(&self, size: usize, align: usize) -> Option<usize> {
        if self.next.get() == 0 {
            self.next.set(&raw const __heap_base as usize);
            self.end.set(core::arch::wasm32::memory_size(0) * PAGE);
        }
        let start = self.next.get().checked_next_multiple_of(align)?;
        let next = start.checked_add(size)?;
        if next > self.end.get() {
            let missing = (next - self.end.get()).div_ceil(PAGE);
            // No more than that: beyond its limit the policy would be ended, not refused.
            if core::arch::wasm32::memory_grow(0, missing) == usize::MAX {
                return None;
            }
            self.end.set(self.end.get() + missing * PAGE);
        }
        self.next.set(next);
        Some(start)
    }

    /// Whether this is what was allocated last.
    fn is_last(&self, address: usize, size: usize) -> bool {
        address + size == self.next.get()
    }
}

// SAFETY: `take` gives each address out once, aligned and within the memory; nothing behind `next` is in use. What is freed or grown in place is the last
// allocation, so no other one overlaps it.
unsafe impl GlobalAlloc for OneWay {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size(), layout.align())
            .map_or(ptr::null_mut(), |address| address as *mut u8)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if self.is_last(pointer as usize, layout.size()) {
            self.next.set(pointer as usize);
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let address = pointer as usize;
        if self.is_last(address, layout.size()) {
            self.next.set(address);
            // The address is aligned already, so this is the same one, unless the memory is at its limit.
            if let Some(same) = self.take(size, layout.align()) {
                return same as *mut u8;
            }
            self.next.set(address + layout.size());
            return ptr::null_mut();
        }
        if size <= layout.size() {
            return pointer;
        }
        match self.take(size, layout.align()) {
            Some(new) => {
                let new = new as *mut u8;
                // SAFETY: both are at least `layout.size()` bytes long, and apart.
                unsafe { ptr::copy_nonoverlapping(pointer, new, layout.size()) };
                new
            }
            None => ptr::null_mut(),
        }
    }
}
