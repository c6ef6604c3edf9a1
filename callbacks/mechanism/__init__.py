"""What of a technique's mechanism ran: its figures in the tables, and what the run is called."""
