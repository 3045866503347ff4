//! The one call into the C library that no crate wraps. Nothing else in mtlsd is `unsafe`.
#![allow(unsafe_code)]

/// Gives memory that was freed back to the system. glibc keeps the pages of many small pieces: with
/// this, a thousand parked connections hold a quarter of the memory that they do without.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_memory_back() {
    // SAFETY: this is the signature that malloc_trim(3) documents, for every thread at any time; it
    // touches nothing but free memory.
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    // Whether anything was given back is of no interest.
    let _ = malloc_trim(0);
}

/// Other allocators do it by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_memory_back() {}
