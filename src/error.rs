//! One error type: what was attempted, on what, and why it failed.
//!
//! An [`Error`] is built where the operation is known and printed once, by whoever decides what happens
//! next. Code in between passes it on unchanged.

use std::fmt;

use rustix::io::Errno;

/// A failed operation: `operation object: cause`.
///
/// One pointer: every function here returns it, so its size is paid for hundreds of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    subject: String,
    cause: Cause,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The kernel said no.
    Os(Errno),
    /// We said no; the text is the reason.
    Because(String),
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An operation that failed on `object` for a reason of our own.
    pub fn new(operation: &str, object: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::build(operation, &object, Cause::Because(reason.to_string()))
    }

    /// A system call that failed on `object`.
    pub fn os(operation: &str, object: impl fmt::Display, errno: Errno) -> Self {
        Self::build(operation, &object, Cause::Os(errno))
    }

    fn build(operation: &str, object: &dyn fmt::Display, cause: Cause) -> Self {
        Self(Box::new(Inner { subject: format!("{operation} {object}"), cause }))
    }

    /// For another process of ours, which makes it an error again with [`Error::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.errno().to_le_bytes().to_vec();
        bytes.extend(self.0.subject.as_bytes());
        if let Cause::Because(reason) = &self.0.cause {
            bytes.push(0);
            bytes.extend(reason.as_bytes());
        }
        bytes
    }

    /// Reads what [`Error::to_bytes`] wrote; `None` for anything shorter.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (errno, text) = bytes.split_first_chunk::<4>()?;
        let text = String::from_utf8_lossy(text);
        let (subject, cause) = match (i32::from_le_bytes(*errno), text.split_once('\0')) {
            (0, Some((subject, reason))) => (subject, Cause::Because(reason.to_owned())),
            (errno, _) => (&*text, Cause::Os(Errno::from_raw_os_error(errno))),
        };
        Some(Self(Box::new(Inner { subject: subject.to_owned(), cause })))
    }

    /// The kernel's error number, 0 when the reason was ours.
    pub fn errno(&self) -> i32 {
        match self.0.cause {
            Cause::Os(errno) => errno.raw_os_error(),
            Cause::Because(_) => 0,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.subject, self.0.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(errno) => Described(*errno).fmt(f),
            Self::Because(reason) => f.write_str(reason),
        }
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

impl std::error::Error for Error {}

/// Adds operation and object to the error of a system call.
pub trait Context<T> {
    /// `operation object: cause`; `object` is only rendered on failure.
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Error::os(operation, object, errno))
    }
}

impl<T> Context<T> for Result<T, Cause> {
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|cause| Error::build(operation, &object, cause))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::os(operation, object, errno(&error)))
    }
}

/// The kernel's number of an error of std. Only a NUL byte in a path, or bytes that are no UTF-8, fail
/// without one (EINVAL).
pub fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}

/// An error number as people search for it: `No such file or directory (ENOENT)`.
pub struct Described(pub Errno);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match known(self.0) {
            Some((_, name, text)) => write!(f, "{text} ({name})"),
            None => write!(f, "error number {}", self.0.raw_os_error()),
        }
    }
}

/// The C name of the error numbers that mounts, files and processes produce (errno(3)).
pub fn name(errno: Errno) -> Option<&'static str> {
    known(errno).map(|(_, name, _)| *name)
}

fn known(errno: Errno) -> Option<&'static (Errno, &'static str, &'static str)> {
    ERRORS.iter().find(|(known, ..)| *known == errno)
}

/// Number, C name and text (errno(3)). The texts are glibc's, which people search for; musl has its own.
#[rustfmt::skip]
static ERRORS: &[(Errno, &str, &str)] = &[
    (Errno::PERM, "EPERM", "Operation not permitted"),
    (Errno::NOENT, "ENOENT", "No such file or directory"),
    (Errno::SRCH, "ESRCH", "No such process"),
    (Errno::INTR, "EINTR", "Interrupted system call"),
    (Errno::IO, "EIO", "Input/output error"),
    (Errno::NXIO, "ENXIO", "No such device or address"),
    (Errno::TOOBIG, "E2BIG", "Argument list too long"),
    (Errno::NOEXEC, "ENOEXEC", "Exec format error"),
    (Errno::BADF, "EBADF", "Bad file descriptor"),
    (Errno::CHILD, "ECHILD", "No child processes"),
    (Errno::AGAIN, "EAGAIN", "Resource temporarily unavailable"),
    (Errno::NOMEM, "ENOMEM", "Cannot allocate memory"),
    (Errno::ACCESS, "EACCES", "Permission denied"),
    (Errno::FAULT, "EFAULT", "Bad address"),
    (Errno::NOTBLK, "ENOTBLK", "Block device required"),
    (Errno::BUSY, "EBUSY", "Device or resource busy"),
    (Errno::EXIST, "EEXIST", "File exists"),
    (Errno::XDEV, "EXDEV", "Invalid cross-device link"),
    (Errno::NODEV, "ENODEV", "No such device"),
    (Errno::NOTDIR, "ENOTDIR", "Not a directory"),
    (Errno::ISDIR, "EISDIR", "Is a directory"),
    (Errno::INVAL, "EINVAL", "Invalid argument"),
    (Errno::NFILE, "ENFILE", "Too many open files in system"),
    (Errno::MFILE, "EMFILE", "Too many open files"),
    (Errno::NOBUFS, "ENOBUFS", "No buffer space available"),
    (Errno::NOTTY, "ENOTTY", "Inappropriate ioctl for device"),
    (Errno::TXTBSY, "ETXTBSY", "Text file busy"),
    (Errno::FBIG, "EFBIG", "File too large"),
    (Errno::NOSPC, "ENOSPC", "No space left on device"),
    (Errno::ROFS, "EROFS", "Read-only file system"),
    (Errno::MLINK, "EMLINK", "Too many links"),
    (Errno::PIPE, "EPIPE", "Broken pipe"),
    (Errno::LOOP, "ELOOP", "Too many levels of symbolic links"),
    (Errno::NAMETOOLONG, "ENAMETOOLONG", "File name too long"),
    (Errno::NOSYS, "ENOSYS", "Function not implemented"),
    (Errno::NOTEMPTY, "ENOTEMPTY", "Directory not empty"),
    (Errno::OVERFLOW, "EOVERFLOW", "Value too large for defined data type"),
    (Errno::USERS, "EUSERS", "Too many users"),
    (Errno::OPNOTSUPP, "EOPNOTSUPP", "Operation not supported"),
    (Errno::ADDRINUSE, "EADDRINUSE", "Address already in use"),
    (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL", "Cannot assign requested address"),
    (Errno::CONNABORTED, "ECONNABORTED", "Software caused connection abort"),
    (Errno::CONNRESET, "ECONNRESET", "Connection reset by peer"),
    (Errno::NOTCONN, "ENOTCONN", "Transport endpoint is not connected"),
    (Errno::TIMEDOUT, "ETIMEDOUT", "Connection timed out"),
    (Errno::CONNREFUSED, "ECONNREFUSED", "Connection refused"),
    (Errno::HOSTDOWN, "EHOSTDOWN", "Host is down"),
    (Errno::STALE, "ESTALE", "Stale file handle"),
    (Errno::DQUOT, "EDQUOT", "Disk quota exceeded"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_operation_object_and_cause() {
        let error = Error::os("mount", "/app", Errno::NOTCONN);
        assert_eq!(error.to_string(), "mount /app: Transport endpoint is not connected (ENOTCONN)");
        assert_eq!(error.errno(), Errno::NOTCONN.raw_os_error());
        assert_eq!(Error::from_bytes(&error.to_bytes()), Some(error));
        assert_eq!(Described(Errno::from_raw_os_error(133)).to_string(), "error number 133");
        let error = Error::new("read", "x.ini", "larger than 1 MiB");
        assert_eq!(Error::from_bytes(&error.to_bytes()).as_ref(), Some(&error));
        assert_eq!((error.to_string().as_str(), error.errno()), ("read x.ini: larger than 1 MiB", 0));
    }
}
