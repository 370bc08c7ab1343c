//! The widest vectors of the machine.

/// Runs `work`, compiled for the widest instruction set that the machine has; in wasm the module is compiled for
/// one. Nothing is fused, so results have the same bits with any.
#[inline(always)]
pub(super) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_family = "wasm")]
    return work();
    #[cfg(not(target_family = "wasm"))]
    {
        struct Work<F>(F);
        impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Work<F> {
            type Output = R;

            #[inline(always)]
            fn call(self) -> R {
                (self.0)()
            }
        }
        pulp::Arch::new().dispatch(Work(work))
    }
}
