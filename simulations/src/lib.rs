//! kith-simulations
