//! The body of every error answer.

use serde::{Deserialize, Serialize};

/// `{"message": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong, for the user.
    pub message: String,
}
