//! kith-models
