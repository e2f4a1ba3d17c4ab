"""From a suite file to the runs that it asks for."""
