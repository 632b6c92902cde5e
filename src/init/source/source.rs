//! The inputs of the configuration and the plans that came from them.

use std::os::fd::BorrowedFd;
use std::rc::Rc;

use crate::config::Input;
use crate::config::plan::VassalPlan;
use crate::init::source::careful_world::Start;
use crate::protocol::{self, FromVassal, TRANSCRIPT_MAX};
use crate::sys::memfd::{self, Use};
use crate::transcript::Transcript;

/// The plans of the vassal, and the inputs that they were read from.
pub struct Source {
    /// The plan of the running app.
    pub(in crate::init) plan: Rc<VassalPlan>,
    /// The plan of a fresh start, which a new file is compared with.
    pub(in crate::init) fresh: Rc<VassalPlan>,
    /// The files, texts and options to read again for a reload.
    pub(in crate::init) inputs: Vec<Input>,
    /// Facts about the machine from the time when the inputs were first read.
    pub(in crate::init) start: Start,
}

/// Sends the emperor what the configuration was made of, if it may have to start another instance with that.
pub fn send_transcript(
    link: Option<BorrowedFd<'_>>,
    plan: &VassalPlan,
    inputs: &[Input],
    transcript: &Transcript,
) {
    let text = inputs.iter().find_map(|input| match input {
        Input::Text { text, .. } => Some(text),
        _ => None,
    });
    let (Some(link), Some(text)) = (link, text.filter(|_| plan.replication.is_rolling)) else { return };
    if transcript.is_known {
        return;
    }
    let bytes = transcript.encode(text);
    if bytes.len() > TRANSCRIPT_MAX {
        let most = TRANSCRIPT_MAX >> 10;
        return crate::log!(
            "its files have more than {most} KiB: no instance can go back to them after a reload"
        );
    }
    if let Ok(file) = memfd::sealed("transcript", &bytes, Use::Read) {
        let _ = protocol::send(link, &FromVassal::Transcript.encode(), Some(&file));
    }
}

impl Source {
    /// Takes over the plan that was read after the change of identity.
    pub fn take_on(&mut self, plan: VassalPlan) {
        self.plan = Rc::new(plan);
        self.fresh = Rc::clone(&self.plan);
    }

    /// The app runs by this plan from now on.
    pub fn run_by(&mut self, plan: Rc<VassalPlan>) {
        self.plan = plan;
    }

    /// What was read again for a reload: the inputs, and the plan of a fresh start.
    pub fn read_again(&mut self, inputs: Vec<Input>, fresh: Rc<VassalPlan>) {
        (self.inputs, self.fresh) = (inputs, fresh);
    }
}
