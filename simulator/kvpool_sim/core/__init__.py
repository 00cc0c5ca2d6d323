"""The engine model: no clock, no I/O. One model, two clocks: the server runs it in real time, a simulation may jump."""
