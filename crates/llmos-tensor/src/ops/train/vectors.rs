//! Loops over vectors whose last one may be short.

use crate::ops::lanes::Lanes;

/// Runs `$body` with `$i` = 0, N, 2N, ... below `$n` and with `$count`, the numbers of that vector:
/// N, at the end perhaps fewer. A macro, as a closure is no `#[inline(always)]`.
macro_rules! each_vector {
    ($lanes:ident, $n:expr, |$i:ident, $count:ident| $body:block) => {{
        let n = $n;
        let mut $i = 0;
        while $i + $lanes::N <= n {
            let $count = $lanes::N;
            $body
            $i += $lanes::N;
        }
        if $i < n {
            let $count = n - $i;
            $body
        }
    }};
}

pub(super) use each_vector;

/// The `count` <= N numbers at `p`, then zeros.
///
/// # Safety
/// The numbers are there; the CPU has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn load<L: Lanes>(p: *const f32, count: usize) -> L::V {
    // SAFETY: the caller's.
    unsafe { if count == L::N { L::load(p) } else { L::load_part(p, count, 0.0) } }
}

/// Stores the first `count` <= N numbers of `v`.
///
/// # Safety
/// There is room for them; the CPU has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn store<L: Lanes>(p: *mut f32, count: usize, v: L::V) {
    // SAFETY: the caller's.
    unsafe { if count == L::N { L::store(p, v) } else { L::store_part(p, count, v) } }
}
