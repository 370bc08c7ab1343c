//! Whole numbers in two digits of 7 bits, for instructions that multiply bytes with them.
//!
//! `i32x4.relaxed_dot_i8x16_i7x16_add_s` gives the same everywhere as long as its second operand has 7 bits; so a number from
//! -8,192 to 8,191 is made one from 0 to 16,383, and products are too large by 8,192 times the other factor.

use core::arch::wasm32::{
    i16x8_add, i16x8_splat, u8x16_narrow_i16x8, u16x8_shr, v128, v128_and, v128_load, v128_store,
};

use crate::DIGITS_OFFSET;

/// Bits of a digit.
pub(crate) const BITS: u32 = 7;

/// Splits numbers; `high` and `low` are as long as `integers`.
#[inline(always)]
pub(crate) fn split(integers: &[i16], high: &mut [u8], low: &mut [u8]) {
    let (whole, rest) = integers.as_chunks::<16>();
    let (high_whole, high_rest) = high.as_chunks_mut::<16>();
    let (low_whole, low_rest) = low.as_chunks_mut::<16>();
    for ((integers, high), low) in whole.iter().zip(high_whole).zip(low_whole) {
        let at = integers.as_ptr().cast::<v128>();
        // SAFETY: sixteen numbers of 16 bits are two vectors, and no load needs alignment.
        let halves = unsafe { [v128_load(at), v128_load(at.add(1))] };
        let [a, b] = halves.map(|half| i16x8_add(half, i16x8_splat(DIGITS_OFFSET as i16)));
        let mask = i16x8_splat((1 << BITS) - 1);
        let highs = u8x16_narrow_i16x8(u16x8_shr(a, BITS), u16x8_shr(b, BITS));
        let lows = u8x16_narrow_i16x8(v128_and(a, mask), v128_and(b, mask));
        // SAFETY: sixteen bytes are one vector, and no store needs alignment.
        unsafe {
            v128_store(high.as_mut_ptr().cast(), highs);
            v128_store(low.as_mut_ptr().cast(), lows);
        }
    }
    for ((integer, high), low) in rest.iter().zip(high_rest).zip(low_rest) {
        let shifted = (i32::from(*integer) + DIGITS_OFFSET) as u16;
        *high = (shifted >> BITS) as u8;
        *low = (shifted & ((1 << BITS) - 1)) as u8;
    }
}
