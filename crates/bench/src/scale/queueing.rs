//! Images in line: for a server, for Redis, for a worker, for Redis and their server again.
//!
//! An event simulation. Images come at random (a Poisson process), and each visit takes a random
//! time (exponential): in a real system both vary less, so waits are longer here. Each station
//! serves in the order of arrival.

use crate::stats::{Times, float};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

/// Images of which the times are told, and those before them, which find the lines too short.
const IMAGES: u64 = 40_000;
const FIRST: u64 = 10_000;

/// Stations of a kind, each with a line of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stations {
    pub(super) count: usize,
    /// How many it serves at a time.
    pub(super) places: usize,
}

/// What an image visits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    /// Which of the kinds. All visits of an image to a kind are to the same station.
    pub(super) kind: usize,
    /// How long it takes on average, in microseconds.
    pub(super) mean_us: f64,
}

/// From arrival to the end of the last visit, and the part of it that was spent in lines.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) times: Times,
    pub(super) waits: Times,
}

#[derive(Debug)]
struct Image {
    arrived: f64,
    /// Since when it is in line, and how long it has been in all.
    since: f64,
    waited: f64,
    /// What chooses its stations.
    number: u64,
    visit: usize,
}

#[derive(Debug, Clone, Default)]
struct Station {
    busy: usize,
    line: VecDeque<usize>,
}

/// Something that happens at a time: an image's visit is over, or begins if it has just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    /// In nanoseconds, so that it has an order.
    at: u64,
    image: usize,
    /// Whether it leaves a station.
    leaves: bool,
}

#[derive(Debug)]
struct Simulation<'a> {
    kinds: &'a [Stations],
    visits: &'a [Visit],
    stations: Vec<Vec<Station>>,
    images: Vec<Image>,
    events: BinaryHeap<Reverse<Event>>,
    random: Random,
}

/// Lets images come at this rate a second, and make these visits.
pub(super) fn simulate(rate: f64, kinds: &[Stations], visits: &[Visit]) -> Answered {
    let stations = kinds
        .iter()
        .map(|kind| vec![Station::default(); kind.count.max(1)]);
    let mut simulation = Simulation {
        kinds,
        visits,
        stations: stations.collect(),
        images: Vec::new(),
        events: BinaryHeap::new(),
        random: Random(1),
    };
    let mut at = 0.0;
    for image in 0..IMAGES + FIRST {
        at += simulation.random.exponential(1e6 / rate);
        let number = simulation.random.next();
        simulation.images.push(Image {
            arrived: at,
            since: at,
            waited: 0.0,
            number,
            visit: 0,
        });
        let image = usize::try_from(image).unwrap_or(usize::MAX);
        simulation.push(at, image, false);
    }
    simulation.run()
}

impl Simulation<'_> {
    fn run(mut self) -> Answered {
        let (mut times, mut waits) = (Vec::new(), Vec::new());
        while let Some(Reverse(event)) = self.events.pop() {
            let now = micros(event.at);
            if event.leaves {
                self.leave(event.image, now);
            }
            let image = &mut self.images[event.image];
            if image.visit < self.visits.len() {
                image.since = now;
                self.arrive(event.image, now);
            } else if event.image as u64 >= FIRST {
                times.push(duration(now - image.arrived));
                waits.push(duration(image.waited));
            }
        }
        Answered {
            times: Times::of(times),
            waits: Times::of(waits),
        }
    }

    /// Where the image's present visit is: the kind, and the station.
    fn place(&self, image: usize) -> (usize, usize) {
        let image = &self.images[image];
        let kind = self.visits[image.visit].kind;
        // Each kind looks at other bits, so that choices have nothing to do with each other.
        let number = Random(image.number ^ kind as u64).next();
        let count = self.stations[kind].len() as u64;
        (kind, usize::try_from(number % count).unwrap_or_default())
    }

    fn arrive(&mut self, image: usize, now: f64) {
        let (kind, station) = self.place(image);
        let station = &mut self.stations[kind][station];
        if station.busy < self.kinds[kind].places.max(1) {
            station.busy += 1;
            self.begin(image, now);
        } else {
            station.line.push_back(image);
        }
    }

    fn begin(&mut self, image: usize, now: f64) {
        let begun = &mut self.images[image];
        begun.waited += now - begun.since;
        let mean = self.visits[begun.visit].mean_us;
        let end = now + self.random.exponential(mean);
        self.push(end, image, true);
    }

    fn leave(&mut self, image: usize, now: f64) {
        let (kind, station) = self.place(image);
        self.images[image].visit += 1;
        let station = &mut self.stations[kind][station];
        match station.line.pop_front() {
            Some(next) => self.begin(next, now),
            None => station.busy -= 1,
        }
    }

    fn push(&mut self, at: f64, image: usize, leaves: bool) {
        let at = u64::try_from(duration(at).as_nanos()).unwrap_or(u64::MAX);
        self.events.push(Reverse(Event { at, image, leaves }));
    }
}

fn micros(nanos: u64) -> f64 {
    float(nanos) / 1e3
}

fn duration(micros: f64) -> Duration {
    Duration::from_secs_f64(micros / 1e6)
}

/// The same numbers each time (splitmix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A time with this mean, whose rest never depends on how long it has been.
    fn exponential(&mut self, mean: f64) -> f64 {
        // 53 bits: above 0 and at most 1.
        let uniform = (float(self.next() >> 11) + 1.0) / float(1 << 53);
        -mean * uniform.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean wait by Erlang's formula for M/M/c, in means of a service.
    fn erlang(places: u32, load: f64) -> f64 {
        let offered = load * f64::from(places);
        let (mut term, mut sum) = (1.0, 0.0);
        for place in 1..=places {
            sum += term;
            term *= offered / f64::from(place);
        }
        let waits = term / (1.0 - load);
        waits / (sum + waits) / (f64::from(places) * (1.0 - load))
    }

    fn mean(times: &Times) -> f64 {
        (0..1000).map(|permille| times.at(permille)).sum::<f64>() / 1000.0
    }

    #[test]
    fn waits_are_those_of_erlang() {
        for (places, load) in [(1, 0.5), (1, 0.8), (4, 0.7), (16, 0.9)] {
            let kinds = [Stations {
                count: 1,
                places: places as usize,
            }];
            let visits = [Visit {
                kind: 0,
                mean_us: 1e4,
            }];
            let rate = load * f64::from(places) * 1e2;
            let simulated = mean(&simulate(rate, &kinds, &visits).waits) / 10.0;
            let expected = erlang(places, load);
            let off = (simulated / expected - 1.0).abs();
            assert!(
                off < 0.15,
                "{places} places, load {load}: {simulated} instead of {expected}"
            );
        }
    }

    #[test]
    fn images_part_and_come_back_to_their_station() {
        let kinds = [Stations {
            count: 2,
            places: 1,
        }];
        let visit = Visit {
            kind: 0,
            mean_us: 500.0,
        };
        // Each station gets half: 0.75 full, as one of them with half the rate.
        let both = mean(&simulate(1500.0, &kinds, &[visit, visit]).times);
        let single = Visit {
            mean_us: 1000.0,
            ..visit
        };
        let alone = mean(&simulate(1500.0, &kinds, &[single]).times);
        assert!((both / alone - 1.0).abs() < 0.2, "{both} and {alone}");
    }
}
