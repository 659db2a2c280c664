"""The tools that we compare with: who they are, the environments they run in, and the scripts that call them there."""
