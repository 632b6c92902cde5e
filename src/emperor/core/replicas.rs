//! Which instance of a vassal is started or stopped next, so that there are as many as its file wants, all
//! of the present file.
//!
//! A change of the file makes the instances old. They are replaced one after another: a new instance is
//! started beside them, and once it is ready, an old one is stopped. So there is never more than one instance
//! beyond the wanted number, and it always has a number of its own.

use super::instance_id::FIRST;

/// An instance, as far as its place among the others is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub number: u16,
    /// Whether a new instance is to take its place, because the file has changed since.
    pub is_old: bool,
    /// How far it is.
    pub stage: Stage,
}

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is not up.
    Down,
    /// Its app runs, and is not known to accept requests yet, or not for long enough.
    Up,
    /// Its app accepts requests, and has done so for long enough that others may be stopped for it.
    Ready,
    /// It is not up, and is not wanted to be at present.
    Resting,
    /// It is stopped for good.
    Leaving,
    /// As [`Stage::Leaving`], for so long that it may never end.
    Stuck,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Start an instance with this number. It is on trial if others are to be stopped for it.
    Start(u16),
    /// Stop this one for good.
    Stop(u16),
    /// Wait until something happens.
    Wait,
}

/// The next step towards `wanted` instances, none of which is old.
pub fn next_step(members: &[Member], wanted: u16) -> Step {
    let all = || members.iter().filter(|it| !matches!(it.stage, Stage::Leaving | Stage::Stuck));
    let (old, new) = (|| all().filter(|member| member.is_old), || all().filter(|member| !member.is_old));
    let wanted = usize::from(wanted);
    // As many as there are in a rolling reload may be stuck without a consequence, but not ever more.
    let stuck = members.iter().filter(|member| member.stage == Stage::Stuck).count();
    let count = members.len() - stuck.min(wanted + 1);
    // It is of no use, and would come back with the new file beside those that are on trial for it.
    let is_useless = |member: &&Member| member.stage == Stage::Down;
    if let Some(useless) = old().find(is_useless).filter(|_| all().count() > 1) {
        return Step::Stop(useless.number);
    }
    let is_settled = new().all(|member| matches!(member.stage, Stage::Ready | Stage::Resting));
    // The first one binds the sockets, which the others get from it.
    let has_sockets = new().any(|member| matches!(member.stage, Stage::Up | Stage::Ready));
    match old().next_back() {
        Some(_) if !is_settled => Step::Wait,
        Some(last) if all().count() > wanted => Step::Stop(last.number),
        Some(_) if count <= wanted => Step::Start(free(members)),
        Some(_) => Step::Wait,
        None => match new().next_back() {
            Some(last) if new().count() > wanted => {
                // First those that are of no use.
                let last_of = |stage| new().rfind(|member| member.stage == stage);
                let useless = [Stage::Down, Stage::Resting, Stage::Up].into_iter().find_map(last_of);
                Step::Stop(useless.unwrap_or(last).number)
            }
            Some(_) if has_sockets && count < wanted => Step::Start(free(members)),
            _ => Step::Wait,
        },
    }
}

/// The smallest number that no instance has.
fn free(members: &[Member]) -> u16 {
    (FIRST..).find(|number| members.iter().all(|member| member.number != *number)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Instances in the form `1R 2o`: the number; `D`own, `U`p, `R`eady, re`S`ting, `L`eaving or stuc`K`, in
    /// small letters if old.
    fn members(text: &str) -> Vec<Member> {
        let member = |word: &str| {
            let (number, letter) = word.split_at(word.len() - 1);
            let stage = match letter.to_ascii_uppercase().as_str() {
                "D" => Stage::Down,
                "U" => Stage::Up,
                "R" => Stage::Ready,
                "S" => Stage::Resting,
                "L" => Stage::Leaving,
                "K" => Stage::Stuck,
                _ => panic!("{word}"),
            };
            let is_old = letter.chars().all(|letter| letter.is_ascii_lowercase());
            Member { number: number.parse().unwrap(), is_old, stage }
        };
        text.split_whitespace().map(member).collect()
    }

    #[test]
    fn each_situation_has_one_next_step() {
        use Step::{Start, Stop, Wait};
        for (now, wanted, step) in [
            // A vassal with one instance is left alone.
            ("1D", 1, Wait),
            ("1U", 1, Wait),
            ("1R", 1, Wait),
            ("1L", 1, Wait),
            // More are wanted: once the first one has bound the sockets, all at once.
            ("1D", 3, Wait),
            ("1U", 3, Start(2)),
            ("1U 2D", 3, Start(3)),
            ("1U 2D 3D", 3, Wait),
            ("2R", 2, Start(1)),
            ("1S", 2, Wait),
            ("1R 2S", 2, Wait),
            // One that ends keeps its place until it is gone.
            ("1R 2L", 2, Wait),
            ("1R 2L", 3, Start(3)),
            // Fewer are wanted: first those that are of no use.
            ("1R 2R 3R", 2, Stop(3)),
            ("1R 2D 3R", 2, Stop(2)),
            ("1R 2R 3L", 2, Wait),
            ("1R 2U 3R", 2, Stop(2)),
            ("1U 2D 3R", 2, Stop(2)),
            ("1S 2U", 1, Stop(1)),
            ("1D 2D", 1, Stop(2)),
            // A rolling reload of one.
            ("1r", 1, Start(2)),
            ("1r 2D", 1, Wait),
            ("1r 2U", 1, Wait),
            ("1r 2R", 1, Stop(1)),
            ("1L 2R", 1, Wait),
            // One that does not end is waited for, but not for ever.
            ("1L 2r", 1, Wait),
            ("1K 2r", 1, Start(3)),
            ("1K 2K 3r", 1, Start(4)),
            ("1K 2K 3K 4r", 1, Wait),
            ("1R 2K", 2, Start(3)),
            ("2R", 1, Wait),
            ("2r", 1, Start(1)),
            // Of two: one after the other.
            ("1r 2r", 2, Start(3)),
            ("1r 2r 3U", 2, Wait),
            ("1r 2r 3R", 2, Stop(2)),
            ("1r 2L 3R", 2, Wait),
            ("1r 3R", 2, Start(2)),
            ("1r 2R 3R", 2, Stop(1)),
            ("2R 3R", 2, Wait),
            // The file has changed once more meanwhile: the new one is of no use.
            ("1r 2r 3d", 2, Stop(3)),
            ("1r 2r 3L", 2, Wait),
            ("1r 2r 3u", 2, Stop(3)),
            ("1r 2r 3r", 2, Stop(3)),
            // An old one that is down gives its place to a new one, unless it is the last.
            ("1r 2d", 2, Stop(2)),
            ("1d", 1, Start(2)),
            // One that died comes back with the new file, and is waited for.
            ("1D 2r 3R", 2, Wait),
            ("1R 2r 3R", 2, Stop(2)),
            // The new file wants another number.
            ("1r 2r 3R", 1, Stop(2)),
            ("1r 3R", 1, Stop(1)),
            ("1r 3R", 4, Start(2)),
            ("1r 2R 3R", 4, Start(4)),
        ] {
            assert_eq!(next_step(&members(now), wanted), step, "{now} of {wanted}");
        }
    }

    /// Plays the steps against instances that come up, become ready and end at random moments, or not at
    /// all, and change their minds about the file.
    #[test]
    fn whatever_happens_the_wanted_number_is_reached_and_never_exceeded_by_two_that_end() {
        let mut seed = 1_u64;
        let mut chance = |of: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % of
        };
        for _ in 0..500 {
            let wanted = 1 + chance(4) as u16;
            let mut all = members("1D");
            for round in 0..600 {
                let stuck = |all: &[Member]| all.iter().filter(|it| it.stage == Stage::Stuck).count();
                let most = usize::from(wanted) + 1;
                let (before, most) = (all.len(), most + stuck(&all).min(most));
                match next_step(&all, wanted) {
                    Step::Start(number) => {
                        assert!(all.iter().all(|member| member.number != number));
                        all.push(Member { number, is_old: false, stage: Stage::Down });
                    }
                    Step::Stop(number) => {
                        all.iter_mut().find(|it| it.number == number).unwrap().stage = Stage::Leaving;
                    }
                    Step::Wait => {}
                }
                assert!(all.len() <= before.max(most), "{all:?} of {wanted}");
                assert!(all.iter().all(|member| member.number <= 2 * wanted + 2), "{all:?} of {wanted}");
                assert!(all.iter().any(|member| member.stage != Stage::Leaving), "{all:?} of {wanted}");
                let index = chance(all.len());
                match all[index].stage {
                    Stage::Down => all[index].stage = Stage::Up,
                    Stage::Up => all[index].stage = Stage::Ready,
                    Stage::Leaving if round < 300 && chance(4) == 0 => all[index].stage = Stage::Stuck,
                    Stage::Stuck if round < 300 && chance(8) > 0 => {}
                    Stage::Leaving | Stage::Stuck => drop(all.remove(index)),
                    // A new file, for as long as there are any; an instance that dies comes back with it.
                    Stage::Ready if round < 300 && chance(4) == 0 => {
                        all.iter_mut().for_each(|member| member.is_old = true);
                    }
                    Stage::Ready if round < 300 && chance(4) == 0 => {
                        (all[index].stage, all[index].is_old) = (Stage::Down, false);
                    }
                    Stage::Ready | Stage::Resting => {}
                }
            }
            assert!(
                all.len() == usize::from(wanted)
                    && all.iter().all(|member| member.stage == Stage::Ready && !member.is_old),
                "{all:?} of {wanted}"
            );
        }
    }
}
