//! The counters that the compiler builds into each edge of the program (SanitizerCoverage).
#![allow(
    unsafe_code,
    reason = "the counters are memory that the compiler's callbacks name"
)]

use std::sync::atomic::{AtomicPtr, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static STOP: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// Called before `main` with the section of the counters, by each compiled unit with the same one.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    START.store(start, Ordering::Relaxed);
    STOP.store(stop, Ordering::Relaxed);
}

/// Called before `main` with the table of edges, which we do not need.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_pcs_init(_start: *const usize, _stop: *const usize) {}

/// The program was compiled with counters.
pub(crate) fn is_built_in() -> bool {
    count() > 0
}

/// How many counters there are.
pub(crate) fn count() -> usize {
    let start = START.load(Ordering::Relaxed).addr();
    STOP.load(Ordering::Relaxed).addr().saturating_sub(start)
}

/// Sets all counters to zero.
pub(crate) fn reset() {
    if is_built_in() {
        // SAFETY: the section is writable memory of the program for all its life, and nobody has a reference to it;
        // the instrumented code adds to its bytes by itself, in this one thread that runs the target.
        unsafe { std::ptr::write_bytes(START.load(Ordering::Relaxed), 0, count()) }
    }
}

/// Copies the counters into `out`.
pub(crate) fn copy_to(out: &mut Vec<u8>) {
    let count = count();
    out.clear();
    out.resize(count, 0);
    if count > 0 {
        // SAFETY: as above, and `out` is memory of its own of that length.
        unsafe {
            std::ptr::copy_nonoverlapping(START.load(Ordering::Relaxed), out.as_mut_ptr(), count)
        }
    }
}
