"""The paper's figures (Chowdhury et al., SIGCOMM 2011), drawn anew: a picture and a table each."""
