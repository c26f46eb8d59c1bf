//! Conversions between wire types and the engine's model.
