//! kith-gossip
