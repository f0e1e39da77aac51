"""Search of settings: trials, the test of the winner on users it has not seen, and the settings in force."""
