//! Whether a new configuration can be taken on in the same jail. It is judged before anything is touched.

use std::rc::Rc;

use super::events::NewFile;
use super::run::Vassal;
use super::start::log_lines;
use crate::config::plan::VassalPlan;
use crate::config::{self, Input};
use crate::error::Context;
use crate::protocol::FromVassal;
use crate::world::{self, NoCommands};

/// What a request to reload comes to.
enum Verdict {
    /// The app is started anew by this plan; a fresh start would follow the other.
    Accepted(Rc<VassalPlan>, Rc<VassalPlan>),
    /// The app goes on as it is.
    Refused(String),
    /// Only a fresh jail can be what the file says now.
    NeedsRespawn(&'static str),
}

impl Vassal {
    /// The plan to restart the app by, if somebody asked for a reload and it can be done.
    pub(super) fn accepted_reload(&mut self) -> Option<Rc<VassalPlan>> {
        let inputs = match self.reload.take()? {
            NewFile::Same if self.has_changed_root() => {
                // Below the new root the path is the tenant's, and so would be the configuration.
                self.refuse("its file cannot be read from inside the jail".into());
                return None;
            }
            NewFile::Sent(_) if self.has_changed_root() && has_templates(&self.inputs) => {
                self.tell(&FromVassal::NeedsRespawn("its templates are not in the jail".to_owned()));
                return None;
            }
            NewFile::Same => self.inputs.clone(),
            NewFile::Sent(file) => match world::read_all(file).context("read", "the new file") {
                Ok(text) => replaced(&self.inputs, &text),
                Err(error) => {
                    self.refuse(error.to_string());
                    return None;
                }
            },
        };
        match self.verdict(&inputs) {
            Verdict::Accepted(plan, fresh) => {
                crate::log!("reloading: the app is restarted in the same jail");
                (self.fresh, self.inputs) = (fresh, inputs);
                Some(plan)
            }
            Verdict::Refused(why) => {
                self.refuse(why);
                None
            }
            Verdict::NeedsRespawn(what) => {
                crate::log!("not reloaded: {what} changed, which needs a fresh jail");
                self.tell(&FromVassal::NeedsRespawn(format!("{what} changed")));
                None
            }
        }
    }

    fn has_changed_root(&self) -> bool {
        self.plan.chroot.is_some() || self.plan.pivot_root.is_some()
    }

    fn verdict(&self, inputs: &[Input]) -> Verdict {
        // In the jail a command is the tenant's program, and it would be run with our rights.
        let world = NoCommands::new(false);
        let fresh = match config::load_vassal(inputs, false, &world) {
            Ok(loaded) => loaded.plan,
            Err(_) if world.asked.get() && self.owner.is_none() => {
                return Verdict::NeedsRespawn("what a command prints may have");
            }
            Err(report) => return Verdict::Refused(report.first()),
        };
        if let Some(what) = self.fresh.jail_change(&fresh) {
            return Verdict::NeedsRespawn(what);
        }
        match config::load_vassal(inputs, true, &world) {
            Ok(loaded) => {
                log_lines(&loaded.warnings);
                Verdict::Accepted(Rc::new(loaded.plan), Rc::new(fresh))
            }
            Err(report) => Verdict::Refused(report.first()),
        }
    }

    fn refuse(&self, why: String) {
        crate::log!("not reloaded, the app goes on as it was: {why}");
        self.tell(&FromVassal::Refused(why));
    }
}

/// The same inputs, with another text for the file.
fn replaced(inputs: &[Input], new: &[u8]) -> Vec<Input> {
    let replace = |input: &Input| match input {
        Input::Text { path, section, .. } => {
            Input::Text { path: path.clone(), section: section.clone(), text: new.to_vec() }
        }
        Input::File(_) | Input::Option { .. } | Input::FromEmperor { .. } => input.clone(),
    };
    inputs.iter().map(replace).collect()
}

/// Whether files of the emperor's are to be read besides the vassal's own.
fn has_templates(inputs: &[Input]) -> bool {
    inputs
        .iter()
        .any(|input| matches!(input, Input::Option { key, .. } if key == "include" || key == "inherit"))
}
