package policy

import "unsafe"

// Where the host puts what it hands over: a request, and what the functions of the contract answer. It asks for that memory while the component may call nobody,
// not even for the time of day: a call then is a trap, "cannot leave component instance". Go's allocator does call: where its heap grows, it looks at the clock
// (runtime/mheap.go, allocSpan). So this memory is not of its heap. It is cut from the end of the linear memory, and never freed: an instance answers one
// request.
var handed struct{ next, end uintptr }

// Pages of WebAssembly's memory.
const page = 64 << 10

// The linear memory may grow through the runtime alone, which takes what lies behind its own end for its own. It calls this on its own stack, which never
// grows.
//
//go:linkname sbrk runtime.sbrk
func sbrk(size uintptr) unsafe.Pointer

//go:linkname systemstack runtime.systemstack
//go:noescape
func systemstack(call func())

// Of the names that wit-component looks for, these two come first. The bindings' own `cabi_realloc`, which takes from Go's heap, is left to the adapter of WASI
// alone.
//
//go:wasmexport cabi_export_realloc
//go:nosplit
func exportRealloc(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	return hand(old, align, size)
}

//go:wasmexport cabi_import_realloc
//go:nosplit
func importRealloc(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	return hand(old, align, size)
}

// Not split, since a stack grows into Go's heap.
//
//go:nosplit
func hand(old unsafe.Pointer, align, size uintptr) unsafe.Pointer {
	if old != nil {
		panic("the host wants to make longer what it handed over, which no text in UTF-8 and no list needs")
	}
	start := (handed.next + align - 1) &^ (align - 1)
	if start+size > handed.end {
		more := (size + page - 1) &^ (page - 1)
		var piece uintptr
		systemstack(func() { piece = uintptr(sbrk(more)) })
		if piece == 0 {
			panic("there is no more memory for what the host hands over")
		}
		if piece != handed.end {
			start = piece
		}
		handed.end = piece + more
	}
	handed.next = start + size
	return unsafe.Pointer(start)
}
