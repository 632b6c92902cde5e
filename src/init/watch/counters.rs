//! Counters of the vassal's cgroups, and what they have counted since it was logged last.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Files of the kernel that count the same event, one for each cgroup. An event in a cgroup may be counted in
/// those above it, too, so the largest number is the number of events.
pub struct Counters {
    read: fn(BorrowedFd<'_>) -> u64,
    /// Each file, with the number that was logged last.
    files: Vec<(u64, OwnedFd)>,
}

impl Counters {
    /// Counts from now on what `read` finds in these files.
    pub fn new(files: impl Iterator<Item = OwnedFd>, read: fn(BorrowedFd<'_>) -> u64) -> Self {
        Self { read, files: files.map(|file| (read(file.as_fd()), file)).collect() }
    }

    /// The files. Those of version 2 announce a change by `POLLPRI` until they are read.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(|(_, file)| file.as_fd())
    }

    /// The number of events that were not taken yet.
    pub fn count(&self) -> u64 {
        let new = |(known, file): &(u64, OwnedFd)| (self.read)(file.as_fd()).saturating_sub(*known);
        self.files.iter().map(new).max().unwrap_or(0)
    }

    /// Takes that number: from now on, later events are counted.
    pub fn take(&mut self) -> u64 {
        let mut most = 0;
        for (known, file) in &mut self.files {
            let count = (self.read)(file.as_fd());
            most = most.max(count.saturating_sub(*known));
            *known = count;
        }
        most
    }
}
