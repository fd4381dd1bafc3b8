//! The secret that the status server asks for, in a file that only the peer's owner can read.
//!
//! Whoever can read the file may give the peer orders. The server and the commands that ask it read
//! the same file, so nothing has to be copied on one machine.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::private;

/// File in the state folder with the secret of one run, unless `[status] token` names another.
pub const OWNER_TOKEN_FILE: &str = "owner.token";

/// Shortest secret. 32 hexadecimal digits are 128 random bits, more than anybody can try.
const CHARACTERS_MIN: usize = 32;
/// Most bytes that are read of a token file.
const BYTES_MAX: u64 = 4096;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("cannot {act} the token file {}: {source}", path.display())]
    Io {
        /// The action as a verb.
        act: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Others can read the file.
    #[error("the token file {} can be read by others (mode {mode:03o}); expected mode 600: run `chmod 600 {}` and, if others use this machine, remove the file so that a new secret is made", path.display(), path.display())]
    Exposed {
        /// Path of the file.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{} is not a token file; expected one line of at least {CHARACTERS_MIN} letters and digits, for example from `openssl rand -hex 32`", .0.display())]
    NotAToken(PathBuf),
    /// The operating system gives no random bytes.
    #[error("the operating system gave no random bytes for a secret: {0}")]
    Random(String),
}

impl TokenError {
    /// Whether there is no file.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, TokenError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

/// How long a secret is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    /// One run; the file is removed with it.
    Run,
    /// Until its owner replaces it; a scraper on another machine has a copy.
    Kept,
}

/// The secret, and the file that it is in.
pub(crate) struct Token {
    path: PathBuf,
    text: Zeroizing<String>,
    lifetime: Lifetime,
}

impl Token {
    /// The secret that its owner keeps in a file, which is made if it is not there.
    ///
    /// # Errors
    /// When there is no randomness, or the file cannot be used.
    pub(crate) fn kept(path: PathBuf) -> Result<Token, TokenError> {
        match Token::read(&path) {
            Err(error) if error.is_absence() => Token::create(path, Lifetime::Kept),
            read => read,
        }
    }

    /// A new secret for this run, in a file that is removed with it.
    ///
    /// # Errors
    /// When there is no randomness, or the file cannot be written.
    pub(crate) fn of_run(path: PathBuf) -> Result<Token, TokenError> {
        Token::create(path, Lifetime::Run)
    }

    fn create(path: PathBuf, lifetime: Lifetime) -> Result<Token, TokenError> {
        let mut secret = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *secret).map_err(|error| TokenError::Random(error.to_string()))?;
        let text = Zeroizing::new(blake3::Hash::from_bytes(*secret).to_hex().to_string());
        let line = Zeroizing::new(format!("{}\n", *text));
        private::write(&path, line.as_bytes()).map_err(|source| TokenError::Io {
            act: "write",
            path: path.clone(),
            source,
        })?;
        Ok(Token {
            path,
            text,
            lifetime,
        })
    }

    /// The secret in a file that is there.
    ///
    /// # Errors
    /// When it cannot be read, others can read it, or it holds something else.
    pub(crate) fn read(path: &Path) -> Result<Token, TokenError> {
        let io = |source| TokenError::Io {
            act: "read",
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.mode() & 0o777;
        if mode & private::OTHERS != 0 {
            let path = path.to_owned();
            return Err(TokenError::Exposed { path, mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|source| match source.kind() {
                ErrorKind::InvalidData => TokenError::NotAToken(path.to_owned()),
                _ => io(source),
            })?;
        let text = Zeroizing::new(text.trim().to_owned());
        // What `Authorization: Bearer` can carry (RFC 6750, section 2.1), so that a header is
        // never split.
        let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if text.len() < CHARACTERS_MIN || !text.bytes().all(is_sign) {
            return Err(TokenError::NotAToken(path.to_owned()));
        }
        Ok(Token {
            path: path.to_owned(),
            text,
            lifetime: Lifetime::Kept,
        })
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The secret itself, for a link that its owner follows.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The header by which a request shows the secret.
    pub(crate) fn header(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Authorization: Bearer {}\r\n", *self.text))
    }

    /// Whether `shown` is the secret. The comparison of hashes takes the same time whatever is
    /// shown.
    pub(crate) fn is(&self, shown: &str) -> bool {
        blake3::hash(shown.as_bytes()) == blake3::hash(self.text.as_bytes())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Run {
            private::remove_own(&self.path, &format!("{}\n", *self.text));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_secret_of_a_run_is_new_private_and_gone_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = || folder.path().join("owner.token");
        let first = Token::of_run(file()).unwrap();
        let text = std::fs::read_to_string(first.path()).unwrap();
        assert_eq!(first.path().metadata().unwrap().mode() & 0o777, 0o600);
        assert!(first.is(text.trim()) && !first.is("") && !first.is(&text[1..]));
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
        assert!(!Token::of_run(file()).unwrap().is(text.trim()));
    }

    #[test]
    fn a_secret_that_its_owner_keeps_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = || folder.path().join("scrape.token");
        drop(Token::kept(file()).unwrap());
        let text = std::fs::read_to_string(file()).unwrap();
        assert!(Token::kept(file()).unwrap().is(text.trim()));
    }

    #[test]
    fn a_secret_that_others_can_read_or_guess_is_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scrape.token");
        let refused = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = Token::kept(path.clone())
                .err()
                .map(|error| error.to_string());
            assert!(
                error.as_ref().is_none_or(|error| !error.contains('\n')),
                "{error:?}"
            );
            error
        };
        let good = "0123456789abcdef0123456789abcdef\n";
        assert_eq!(refused(good, 0o600), None);
        for mode in [0o640, 0o604, 0o620] {
            let error = refused(good, mode).unwrap();
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:03o}")));
        }
        let two_lines = good.repeat(2);
        for text in [
            "",
            "short\n",
            &two_lines,
            "0123456789abcdef 0123456789abcdef",
        ] {
            let error = refused(text, 0o600).unwrap();
            assert!(
                error.contains("at least 32") && (text.is_empty() || !error.contains(text.trim())),
                "{error}"
            );
        }
    }
}
