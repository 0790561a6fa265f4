//! A part of a state that most steps leave alone: states share it, and it is hashed once.

use std::cell::OnceCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

#[derive(Clone, Debug, Default)]
pub(super) struct Hashed<T> {
    value: Rc<T>,
    digest: OnceCell<u64>,
}

impl<T> Hashed<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Rc::new(value), digest: OnceCell::new() }
    }
}

impl<T: Clone> Hashed<T> {
    /// The value, to be changed in this state and no other.
    pub(super) fn change(&mut self) -> &mut T {
        self.digest.take();
        Rc::make_mut(&mut self.value)
    }
}

impl<T> Deref for Hashed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Hash> Hash for Hashed<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let digest = self.digest.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            self.value.hash(&mut hasher);
            hasher.finish()
        });
        state.write_u64(*digest);
    }
}
