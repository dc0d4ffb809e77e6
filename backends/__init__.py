"""What turns a program into something that runs. Imports graphc.ir and itself only."""
