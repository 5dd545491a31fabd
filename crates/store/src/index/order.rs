//! The slots of an owner's jobs in the order of pages.

/// How many slots a block holds at most.
const BLOCK: usize = 256;

/// Slots in order, in blocks: four bytes a job, where a tree of keys would take forty. What the
/// order is, is known to who asks: keys are looked up by slot.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// None of them is empty.
    blocks: Vec<Vec<u32>>,
}

/// A place between two slots: the block, and how many of its slots are before it.
pub(super) type Position = (usize, usize);

impl Order {
    pub(super) const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The place before the first slot for which `before` does not hold any more.
    pub(super) fn position(&self, before: impl Fn(u32) -> bool) -> Position {
        let last_is_before = |block: &Vec<u32>| block.last().is_some_and(|&slot| before(slot));
        // Most that come are the newest.
        if self.blocks.last().is_some_and(last_is_before) {
            return (self.blocks.len(), 0);
        }
        let block = self.blocks.partition_point(last_is_before);
        let inside = self.blocks.get(block);
        let inside = inside.map_or(0, |block| block.partition_point(|&slot| before(slot)));
        (block, inside)
    }

    /// Puts a slot at its place.
    pub(super) fn insert(&mut self, (at, inside): Position, slot: u32) {
        // Behind the last of all: the last block goes on, and a full one is left full.
        let (at, inside) = match self.blocks.last().map(Vec::len) {
            Some(len) if at == self.blocks.len() && len < BLOCK => (at - 1, len),
            _ => (at, inside),
        };
        let Some(block) = self.blocks.get_mut(at) else {
            self.blocks.push(vec![slot]);
            return;
        };
        block.insert(inside.min(block.len()), slot);
        if block.len() > BLOCK {
            let half = block.split_off(BLOCK / 2);
            self.blocks.insert(at + 1, half);
        }
    }

    /// Takes a slot out that is at this place.
    pub(super) fn remove(&mut self, (at, inside): Position, slot: u32) {
        let Some(block) = self.blocks.get_mut(at) else {
            return;
        };
        if block.get(inside) != Some(&slot) {
            return;
        }
        block.remove(inside);
        let left = block.len();
        if left == 0 {
            self.blocks.remove(at);
        } else if left < BLOCK / 4 {
            self.join(at);
        }
    }

    /// Joins a small block with the next, if together they are no large one.
    fn join(&mut self, at: usize) {
        let at = if at + 1 < self.blocks.len() {
            at
        } else {
            at.saturating_sub(1)
        };
        let len = |block: Option<&Vec<u32>>| block.map_or(BLOCK, Vec::len);
        if len(self.blocks.get(at)) + len(self.blocks.get(at + 1)) <= BLOCK / 2 {
            let next = self.blocks.remove(at + 1);
            if let Some(block) = self.blocks.get_mut(at) {
                block.extend(next);
            }
        }
    }

    /// The slots from this place on.
    pub(super) fn onwards(&self, (at, inside): Position) -> impl Iterator<Item = u32> + '_ {
        let blocks = self.blocks.get(at..).unwrap_or_default();
        blocks.iter().flatten().copied().skip(inside)
    }

    /// The slots before this place, the last first.
    pub(super) fn backwards(&self, (at, inside): Position) -> impl Iterator<Item = u32> + '_ {
        let part = self.blocks.get(at).and_then(|block| block.get(..inside));
        let whole = self.blocks.get(..at).unwrap_or_default();
        let part = part.unwrap_or_default().iter().rev();
        part.chain(whole.iter().rev().flat_map(|block| block.iter().rev()))
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn slots_stay_in_order(
            steps in vec((any::<bool>(), 0..2000_u32), 0..3000), ascending: bool,
        ) {
            let (mut order, mut model) = (Order::default(), BTreeSet::new());
            for (index, (insert, number)) in steps.into_iter().enumerate() {
                let number = if ascending && insert {
                    u32::try_from(index).unwrap()
                } else {
                    number
                };
                let position = order.position(|slot| slot < number);
                if insert && model.insert(number) {
                    order.insert(position, number);
                } else if model.remove(&number) {
                    order.remove(position, number);
                }
            }
            prop_assert!(order.onwards((0, 0)).eq(model.iter().copied()));
            prop_assert_eq!(order.is_empty(), model.is_empty());
            for number in [0, 700, 2000] {
                let position = order.position(|slot| slot < number);
                prop_assert!(order.onwards(position).eq(model.range(number..).copied()));
                prop_assert!(order.backwards(position).eq(model.range(..number).rev().copied()));
            }
            let most = 1 + model.len() / (BLOCK / 4) * 2;
            prop_assert!(order.blocks.len() <= most.max(3), "{} blocks", order.blocks.len());
        }
    }
}
