//! The random source that the engine does not have.

/// Seeds are arguments, so nothing may draw randomness of its own; what the inference engine links
/// of it gets an error instead.
///
/// # Safety
/// Called by `getrandom` with a buffer that is not touched here.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(_dest: *mut u8, _len: usize) -> Result<(), getrandom::Error> {
    Err(getrandom::Error::UNSUPPORTED)
}
