//! The failure of a child: which step failed, and which key of the configuration asked for that step.

use crate::config::plan::{Action, Hook, Limited, Located, Location, Phase, VassalPlan};
use crate::error::Error;
use crate::identity::Part;
use crate::protocol::EXIT_SETUP;

/// A step of a child, between its creation and its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A resource limit.
    Limit(Limited),
    /// The nice value.
    Nice,
    /// A part of the privilege drop.
    Drop(Part),
    /// The signal that the child gets when PID 1 dies.
    ParentDeath,
    /// The filter of system calls.
    Seccomp,
    /// The working directory.
    Workdir,
    /// The descriptors that the child inherits.
    Descriptors,
    /// The work of the child, or the execution of its program.
    Work,
}

/// Every step, each at the place of its [number](Step::number).
const STEPS: [Step; 15] = [
    Step::Limit(Limited::AddressSpace),
    Step::Limit(Limited::Descriptors),
    Step::Limit(Limited::Processes),
    Step::Nice,
    Step::Drop(Part::Dropped),
    Step::Drop(Part::Groups),
    Step::Drop(Part::Group),
    Step::Drop(Part::User),
    Step::Drop(Part::Kept),
    Step::Drop(Part::NoNewPrivs),
    Step::ParentDeath,
    Step::Workdir,
    Step::Descriptors,
    Step::Work,
    Step::Seccomp,
];

/// A child that could not do its work.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The step that failed.
    pub step: Step,
    /// The reason.
    pub error: Error,
    /// The exit status of the child.
    pub status: i32,
}

impl Failure {
    /// A failure in a step before the child's program.
    pub fn of_setup(step: Step, error: Error) -> Self {
        Self { step, error, status: EXIT_SETUP }
    }

    /// Encodes the failure, for the child's report to its parent.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&[self.status as u8, self.step.number()], &self.error.to_bytes()[..]].concat()
    }

    /// Reads what [`Failure::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[status, number], error) = bytes.split_first_chunk()?;
        let step = STEPS.get(usize::from(number)).copied()?;
        Some(Self { step, error: Error::from_bytes(error)?, status: status.into() })
    }

    /// The key that asked for the failed step, with its place; `None` for the work itself, and for a step
    /// that no key asked for.
    pub fn key(&self, plan: &VassalPlan) -> Option<String> {
        let (key, at) = self.step.asked_for_by(plan)?;
        Some(format!("{at}: {key}"))
    }
}

impl Step {
    /// The step's index in [`STEPS`], for the report of a child. A new step is added to both.
    fn number(self) -> u8 {
        match self {
            Self::Limit(Limited::AddressSpace) => 0,
            Self::Limit(Limited::Descriptors) => 1,
            Self::Limit(Limited::Processes) => 2,
            Self::Nice => 3,
            Self::Drop(Part::Dropped) => 4,
            Self::Drop(Part::Groups) => 5,
            Self::Drop(Part::Group) => 6,
            Self::Drop(Part::User) => 7,
            Self::Drop(Part::Kept) => 8,
            Self::Drop(Part::NoNewPrivs) => 9,
            Self::ParentDeath => 10,
            Self::Workdir => 11,
            Self::Descriptors => 12,
            Self::Work => 13,
            Self::Seccomp => 14,
        }
    }

    fn asked_for_by(self, plan: &VassalPlan) -> Option<(&str, &Location)> {
        let privileges = &plan.privileges;
        let (run_as, limits) = (&plan.run_as, &plan.resources.limits);
        match self {
            Self::Limit(resource) => {
                limits.iter().rev().find(|limit| limit.value.resource == resource).map(source)
            }
            Self::Nice => plan.resources.nice.as_ref().map(source),
            Self::Drop(Part::Dropped) => {
                privileges.cap_drop.as_ref().map(source).or_else(|| first(&privileges.capabilities))
            }
            Self::Drop(Part::Groups | Part::User) => first(&run_as.uid).or_else(|| first(&run_as.gid)),
            Self::Drop(Part::Group) => first(&run_as.gid).or_else(|| first(&run_as.uid)),
            Self::Drop(Part::Kept) => first(&privileges.capabilities).or_else(|| first(&run_as.uid)),
            Self::Drop(Part::NoNewPrivs) => None,
            Self::Workdir => {
                let changes =
                    |hook: &&Hook| matches!(hook.action, Action::Chdir(_)) && hook.phase <= Phase::PreApp;
                let last = plan.hooks.iter().rev().find(changes);
                first(&plan.chdir).or_else(|| last.map(|hook| source(&hook.source)))
            }
            Self::Descriptors => first(&plan.listen),
            Self::Seccomp => privileges.seccomp.as_ref().map(source),
            Self::ParentDeath | Self::Work => None,
        }
    }
}

fn first<'a, T: 'a>(of: impl IntoIterator<Item = &'a Located<T>>) -> Option<(&'a str, &'a Location)> {
    of.into_iter().next().map(source)
}

fn source<T>(of: &Located<T>) -> (&str, &Location) {
    (&of.key, &of.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_survives_its_report() {
        for (place, step) in STEPS.into_iter().enumerate() {
            assert_eq!(usize::from(step.number()), place);
            let failure = Failure::of_setup(step, Error::new("do", "it", "it cannot be done"));
            assert_eq!(Failure::from_bytes(&failure.to_bytes()).map(|failure| failure.step), Some(step));
        }
    }
}
