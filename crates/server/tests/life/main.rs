//! A job's life, checked exhaustively: with every order of events and every misfortune at any
//! moment, what was accepted ends as exactly one row, which says what the client was told.
//!
//! The model (`world`, `steps`, `life`) has one job and all who have a part in its life. It is
//! walked through every state that they can come to. Then, for each of these states, it is shown
//! that without any further misfortune the end can still be reached: nothing is stuck for ever.
//!
//! What it does not have: several runs, priorities, time. Whatever waits for a time in the programs
//! may happen here at once, so every time that is configured is covered.

mod life;
mod steps;
mod world;

use life::Life;
use std::collections::{HashMap, VecDeque};
use world::{Action, World};

/// All states that can be come to, each with how it was come to first, and what can follow.
#[derive(Default)]
struct Walk {
    numbers: HashMap<World, usize>,
    states: Vec<World>,
    from: Vec<Option<(usize, Action)>>,
    /// The states before each, from which no misfortune leads to it.
    before: Vec<Vec<usize>>,
}

impl Walk {
    fn number(&mut self, world: World, from: Option<(usize, Action)>) -> usize {
        let next = self.states.len();
        let number = *self.numbers.entry(world.clone()).or_insert(next);
        if number == next {
            self.states.push(world);
            self.from.push(from);
            self.before.push(Vec::new());
        }
        number
    }

    /// Walks breadth first, so that what it stumbles upon was come to by the shortest way.
    fn through(life: Life) -> Self {
        let mut walk = Self::default();
        let mut open = VecDeque::from([walk.number(life.beginning(), None)]);
        while let Some(number) = open.pop_front() {
            let world = walk.states[number].clone();
            if let Some(broken) = world.broken_promise() {
                panic!("{broken}, after {:?}: {world:#?}", walk.way_to(number));
            }
            for action in life.actions(&world) {
                let Some(next) = world.after(action) else {
                    continue;
                };
                let known = walk.states.len();
                let next = walk.number(next, Some((number, action)));
                if next == known {
                    open.push_back(next);
                }
                if !action.is_misfortune() {
                    walk.before[next].push(number);
                }
            }
        }
        walk
    }

    fn way_to(&self, mut number: usize) -> Vec<Action> {
        let mut way = Vec::new();
        while let Some((from, action)) = self.from[number] {
            way.push(action);
            number = from;
        }
        way.reverse();
        way
    }

    /// A state from which the end can't be reached without another misfortune.
    fn stuck(&self) -> Option<usize> {
        let mut reaches: Vec<bool> = self.states.iter().map(World::is_at_its_end).collect();
        let ends = (0..reaches.len()).filter(|&it| reaches[it]);
        let mut open: Vec<usize> = ends.collect();
        while let Some(number) = open.pop() {
            for &earlier in &self.before[number] {
                if !std::mem::replace(&mut reaches[earlier], true) {
                    open.push(earlier);
                }
            }
        }
        reaches.iter().position(|it| !it)
    }
}

/// Walks through all states; gives their number.
fn check(life: Life) -> usize {
    let walk = Walk::through(life);
    if let Some(stuck) = walk.stuck() {
        let (way, world) = (walk.way_to(stuck), &walk.states[stuck]);
        panic!("no way leads to the end after {way:?}: {world:#?}");
    }
    println!("{} states: {life:?}", walk.states.len());
    walk.states.len()
}

const LIFE: Life = Life {
    misfortunes: 1,
    submissions: 1,
    workers: 1,
    persisters: 1,
    requeues: 0,
};

#[test]
fn undisturbed() {
    assert!(
        check(Life {
            misfortunes: 0,
            ..LIFE
        }) > 100
    );
}

#[test]
fn with_any_misfortune_and_a_client_that_submits_again() {
    check(Life {
        submissions: 2,
        ..LIFE
    });
}

#[test]
fn with_any_misfortune_and_the_task_in_two_workers() {
    check(Life {
        workers: 2,
        requeues: 1,
        ..LIFE
    });
}

/// A million states and more.
#[test]
#[ignore = "takes minutes"]
fn with_any_misfortune_and_two_persisters() {
    check(Life {
        persisters: 2,
        ..LIFE
    });
}

/// A million states and more.
#[test]
#[ignore = "takes minutes"]
fn with_any_two_misfortunes() {
    check(Life {
        misfortunes: 2,
        ..LIFE
    });
}
