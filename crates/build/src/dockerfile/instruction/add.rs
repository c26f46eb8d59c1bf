//! `ADD [--chown=..] [--chmod=..] [--checksum=..] [--unpack] source... target`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::flags::Flags;
use crate::dockerfile::instruction::Transfer;

/// Copies files of the context; local archives are unpacked, addresses fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// What goes where.
    pub transfer: Transfer,
    /// Expected digest of what is fetched.
    pub checksum: Option<String>,
    /// Whether archives are unpacked: local ones are, fetched ones are not, unless it is said.
    pub unpack: Option<bool>,
}

impl Add {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        let mut flags = Flags::new(&statement.flags);
        let checksum = flags.text("checksum")?;
        let unpack = flags.switch("unpack")?;
        if flags.switch("keep-git-dir")?.is_some() {
            return Err(BuildError::unsupported(
                "ADD --keep-git-dir is not supported: this builder does not fetch git repositories",
            ));
        }
        Ok(Self {
            checksum,
            unpack,
            transfer: Transfer::parse("ADD", statement, flags)?,
        })
    }

    /// Expands paths and flags.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        Ok(Self {
            transfer: self.transfer.expand(expander)?,
            checksum: self.checksum.as_ref().map(|c| expander.word(c)).transpose()?,
            unpack: self.unpack,
        })
    }
}
