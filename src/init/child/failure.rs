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

/// Gives each step its number in the report of a child. A step that is left out does not compile.
macro_rules! numbered {
    ($($number:literal: $step:ident $(($($part:tt)+))?),+ $(,)?) => {
        impl Step {
            fn number(self) -> u8 {
                match self {
                    $(Self::$step $(($($part)+))? => $number),+
                }
            }

            fn of_number(number: u8) -> Option<Self> {
                Some(match number {
                    $($number => Self::$step $(($($part)+))?,)+
                    _ => return None,
                })
            }
        }
    };
}

numbered! {
    0: Limit(Limited::AddressSpace),
    1: Limit(Limited::Descriptors),
    2: Limit(Limited::Processes),
    3: Nice,
    4: Drop(Part::Dropped),
    5: Drop(Part::Groups),
    6: Drop(Part::Group),
    7: Drop(Part::User),
    8: Drop(Part::Kept),
    9: Drop(Part::NoNewPrivs),
    10: ParentDeath,
    11: Workdir,
    12: Descriptors,
    13: Work,
    14: Seccomp,
}

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
        Some(Self { step: Step::of_number(number)?, error: Error::from_bytes(error)?, status: status.into() })
    }

    /// The key that asked for the failed step, with its place; `None` for the work itself, and for a step
    /// that no key asked for.
    pub fn key(&self, plan: &VassalPlan) -> Option<String> {
        let (key, at) = self.step.asked_for_by(plan)?;
        Some(format!("{at}: {key}"))
    }
}

impl Step {
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
                // The key comes between the phases as-user and pre-app.
                let last = plan.hooks.iter().rev().find(changes);
                match last {
                    Some(hook) if hook.phase == Phase::PreApp => Some(source(&hook.source)),
                    _ => first(&plan.chdir).or_else(|| last.map(|hook| source(&hook.source))),
                }
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
        let steps: Vec<_> = (0..=u8::MAX).filter_map(Step::of_number).collect();
        assert!(steps.contains(&Step::Work), "{steps:?}");
        for step in steps {
            let failure = Failure::of_setup(step, Error::new("do", "it", "it cannot be done"));
            assert_eq!(Failure::from_bytes(&failure.to_bytes()).map(|failure| failure.step), Some(step));
        }
    }
}
