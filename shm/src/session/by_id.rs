//! Requests by their ids, of which there are few at a time.

use std::cmp::Ordering;
use std::collections::VecDeque;

/// A map that allocates nothing for as long as it has once been larger: a tree of one request, which comes and goes all the
/// time, would allocate for each. Ids mostly come in order, so that most of what happens is at the ends; whoever sends them in
/// another order makes this move what is there, which a limit on requests bounds.
#[derive(Debug)]
pub(super) struct ById<T>(VecDeque<(u64, T)>);

impl<T> ById<T> {
    pub fn new() -> Self {
        Self(VecDeque::new())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, id: u64) -> Option<&T> {
        self.0.get(self.place(id).ok()?).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let place = self.place(id).ok()?;
        self.0.get_mut(place).map(|(_, value)| value)
    }

    /// Puts `value` in the place of what `id` had.
    pub fn insert(&mut self, id: u64, value: T) {
        match self.place(id) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => self.0.insert(place, (id, value)),
        }
    }

    pub fn remove(&mut self, id: u64) -> Option<T> {
        self.0.remove(self.place(id).ok()?).map(|(_, value)| value)
    }

    fn place(&self, id: u64) -> Result<usize, usize> {
        let Some((last, _)) = self.0.back() else { return Err(0) };
        match id.cmp(last) {
            Ordering::Greater => Err(self.0.len()),
            Ordering::Equal => Ok(self.0.len() - 1),
            Ordering::Less => self.0.binary_search_by_key(&id, |(id, _)| *id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..20u64, 0..4u8), 0..200)) {
            let (mut map, mut model) = (ById::new(), BTreeMap::new());
            for (at, (id, what)) in steps.into_iter().enumerate() {
                match what {
                    0 | 1 => {
                        map.insert(id, at);
                        model.insert(id, at);
                    }
                    2 => prop_assert_eq!(map.remove(id), model.remove(&id)),
                    _ => prop_assert_eq!(map.get_mut(id).map(|at| { *at += 1; *at }), model.get_mut(&id).map(|at| { *at += 1; *at })),
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert!((0..20).all(|id| map.get(id) == model.get(&id)));
            }
        }
    }
}
