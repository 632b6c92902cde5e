//! Facts that few vassals have.

use std::ops::{Deref, DerefMut};

/// Facts that most vassals never have. They take memory once one of them is set; until then all of them are
/// as in [`Facts::NONE`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rare<T>(pub(super) Option<Box<T>>);

/// Facts of one kind.
pub trait Facts: Default + 'static {
    /// None of them; the same as the default.
    const NONE: &'static Self;
}

impl<T: Facts> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::NONE)
    }
}

impl<T: Facts> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
