//! The vassals across an upgrade: saving them for the next program, and going on with them there.

use std::rc::Rc;
use std::time::Instant;

use super::supervisor::Supervisor;
use crate::emperor::core::saved::SavedVassal;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::kept_sockets::Kept;
use crate::emperor::instance::process::Process;
use crate::log_of;

impl Supervisor {
    /// The vassals, for a program that takes the place of this one.
    pub fn save(&self) -> Vec<SavedVassal<&Vassal>> {
        let save = |(file, vassal)| SavedVassal {
            file: Rc::clone(file),
            vassal,
            process: self.handles.process(file).map(Process::save),
            sockets: self.handles.kept(file).map(Kept::save).unwrap_or_default(),
        };
        self.registry.vassals().map(save).collect()
    }

    /// Goes on with the vassals of the program before this one.
    pub fn take_over(&mut self, saved: Vec<SavedVassal>, now: Instant) {
        for SavedVassal { file, vassal, process, sockets } in saved {
            // In any case, so that none of them stays open.
            let kept = Kept::resume(sockets);
            if let (Some(facts), Some(saved)) = (vassal.process(), process) {
                let process = Process::resume(facts, &saved, self.spawner.removals());
                if let Err(error) = process.and_then(|process| self.handles.add_process(&file, process)) {
                    // Its link is closed by that: it ends. Its file is found by the next scan, as a new one.
                    log_of!(file, "{error}: starting it anew");
                    continue;
                }
            }
            self.handles.with_kept(&file, |held| *held = kept);
            self.handles.note_fuse(&file, &self.fusectl);
            self.registry.take_over(&file, vassal);
        }
        self.run_effects(now);
    }

    /// After a scan: ends vassals that were taken over and whose files are `given_up`, for the reason that
    /// this tells. Returns whether there are others whose files no scan has found yet.
    pub fn drop_unclaimed(
        &mut self,
        given_up: impl Fn(&VassalFile) -> Option<&'static str>,
        now: Instant,
    ) -> bool {
        let unclaimed = self.registry.vassals().filter(|(_, vassal)| vassal.is_unclaimed());
        let unclaimed: Vec<_> = unclaimed.map(|(file, _)| Rc::clone(file)).collect();
        let mut are_left = false;
        for file in unclaimed {
            match given_up(&file) {
                Some(why) => self.removed(&file, why, now),
                None => are_left = true,
            }
        }
        are_left
    }
}
