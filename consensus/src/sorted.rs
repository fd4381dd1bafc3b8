//! A map of few entries, sorted by key in one piece of memory: for what a peer keeps about each
//! neighbour, or about each of the last rounds.
//!
//! A B-tree makes room for eleven entries at once, but a peer of a sparse graph has four. With
//! thousands of peers in a process the rest is memory that is fetched and not used. Insertion moves
//! the entries that follow, which is cheap up to thousands of entries.

/// A map from `K` to `T`.
#[derive(Clone, Debug)]
pub struct Sorted<K, T>(Vec<(K, T)>);

impl<K, T> Default for Sorted<K, T> {
    fn default() -> Sorted<K, T> {
        Sorted(Vec::new())
    }
}

impl<K: Ord, T> Sorted<K, T> {
    /// An empty map with room for `entries` entries.
    pub fn with_room(entries: usize) -> Sorted<K, T> {
        Sorted(Vec::with_capacity(entries))
    }

    fn put(&mut self, place: usize, key: K, value: T) {
        // Room for one at first and then twice as much each time: a list that never holds a second
        // entry is common here.
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(self.0.len().max(1));
        }
        self.0.insert(place, (key, value));
    }

    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }

    /// The entry of `key`.
    pub fn get(&self, key: &K) -> Option<&T> {
        self.place(key).ok().map(|place| &self.0[place].1)
    }

    /// The entry of `key`, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut T> {
        self.place(key).ok().map(|place| &mut self.0[place].1)
    }

    /// Whether there is an entry of `key`.
    pub fn contains(&self, key: &K) -> bool {
        self.place(key).is_ok()
    }

    /// The entry of `key`, made if there is none.
    pub fn entry(&mut self, key: K, make: impl FnOnce() -> T) -> &mut T {
        let place = self.place(&key).unwrap_or_else(|place| {
            self.put(place, key, make());
            place
        });
        &mut self.0[place].1
    }

    /// Puts an entry in; returns the one that was there before.
    pub fn insert(&mut self, key: K, value: T) -> Option<T> {
        match self.place(&key) {
            Ok(place) => Some(std::mem::replace(&mut self.0[place].1, value)),
            Err(place) => {
                self.put(place, key, value);
                None
            }
        }
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &K) -> Option<T> {
        self.place(key).ok().map(|place| self.0.remove(place).1)
    }

    /// Takes the entry of the lowest key out.
    pub fn pop_first(&mut self) -> Option<(K, T)> {
        if self.0.is_empty() {
            None
        } else {
            Some(self.0.remove(0))
        }
    }

    /// The entry of the lowest key.
    pub fn first(&self) -> Option<(&K, &T)> {
        self.0.first().map(|(key, value)| (key, value))
    }

    /// All entries, by key.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &T)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All entries, by key, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut T)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// All keys, ascending.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, by key.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }

    /// All values, by key, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// Leaves only the entries for which `keep` is true.
    pub fn retain(&mut self, keep: impl Fn(&K, &T) -> bool) {
        self.0.retain(|(key, value)| keep(key, value));
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::Seed;

    use super::*;

    #[test]
    fn it_does_what_a_tree_does() {
        let mut random = Seed::from_number(1).stream("test");
        let (mut sorted, mut tree) = (Sorted::default(), BTreeMap::new());
        for step in 0..2000u64 {
            let key = random.bounded(20);
            match random.bounded(6) {
                0 => assert_eq!(sorted.insert(key, step), tree.insert(key, step)),
                1 => assert_eq!(sorted.remove(&key), tree.remove(&key)),
                2 => assert_eq!(sorted.entry(key, || step), tree.entry(key).or_insert(step)),
                3 => assert_eq!(sorted.get(&key), tree.get(&key)),
                4 => assert_eq!(sorted.pop_first(), tree.pop_first()),
                _ => {
                    sorted.retain(|key, _| !key.is_multiple_of(5));
                    tree.retain(|key, _| !key.is_multiple_of(5));
                }
            }
            assert!(sorted.iter().eq(tree.iter()) && sorted.first() == tree.first_key_value());
        }
    }
}
