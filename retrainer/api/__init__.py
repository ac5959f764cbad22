"""What people and programs may ask of a running retrainer and tell it to do, and the HTTP transport of that."""
